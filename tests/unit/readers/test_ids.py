"""Ids from files: no two documents share one, the same file gives the same ones, and neighbours change nothing."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.readers import read
from gristmill_schemas import Document


def ids(*paths: Path | str, **options: object) -> list[str]:
    return [item.id for item in read(list(paths), **options) if isinstance(item, Document)]  # type: ignore[arg-type]


def test_headings_that_look_like_a_second_one_of_another_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_text("# Example\na\n# Example\nb\n# Example 1\nc\n# Example-1\nd\n# Example~2\ne\n# Example~2\nf\n")
    assert ids(path, root=tmp_path) == [
        "guide.md#example",
        "guide.md#example~2",
        "guide.md#example-1",
        "guide.md#example-1~2",
        "guide.md#example2",
        "guide.md#example2~2",
    ]


def test_files_of_one_name_in_folders_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    for place in ("a/docs", "b/docs"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "README.md").write_text("text")
        (tmp_path / place / "rows.jsonl").write_text('{"text": "the same"}\n')
    together = ids(tmp_path / "a" / "docs", tmp_path / "b" / "docs")
    assert len(set(together)) == 4
    assert ids(tmp_path / "a" / "docs") + ids(tmp_path / "b" / "docs") == together
    assert ids(tmp_path / "a" / "docs" / "README.md") == together[:1]


def test_an_id_depends_neither_on_the_working_directory_nor_on_how_the_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "sub" / "a.md").write_text("# One\ntext")
    expected = [f"{tmp_path}/docs/sub/a.md#one"]
    for here, path in ((tmp_path, "docs"), (tmp_path / "docs", "."), (tmp_path / "docs" / "sub", "../sub/a.md")):
        monkeypatch.chdir(here)
        assert ids(path) == expected
        assert ids(Path.cwd() / path) == expected
        assert ids(f"{path}{'*' if path == 'docs' else ''}") == expected


def test_below_a_root_an_id_is_the_same_on_every_machine(tmp_path: Path) -> None:
    for machine in ("one", "two"):
        (tmp_path / machine / "docs").mkdir(parents=True)
        (tmp_path / machine / "docs" / "a.md").write_text("text")
    assert ids(tmp_path / "one", root=tmp_path / "one") == ids(tmp_path / "two", root=tmp_path / "two") == ["docs/a.md"]


def test_a_link_that_the_caller_names_keeps_its_name_when_it_points_elsewhere(tmp_path: Path) -> None:
    for release in ("r1", "r2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.md").write_text("text")
    found = []
    for release in ("r1", "r2"):
        (tmp_path / "current").unlink(missing_ok=True)
        (tmp_path / "current").symlink_to(tmp_path / release)
        found.append(ids(tmp_path / "current"))
    assert found == [[f"{tmp_path}/current/a.md"]] * 2


def test_the_same_text_twice_in_one_file_is_two_documents(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,stars\nGreat!,5\nGreat!,4\nBad,1\n")
    first, second, third = ids(path)
    assert second == f"{first}~2"
    path.write_text("text,stars\nBad,1\nNew,3\nGreat!,5\nGreat!,4\n")
    again = ids(path)
    assert [again[0], *again[2:]] == [third, first, second]


def test_a_path_beyond_what_an_id_holds_still_gives_one(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 200] * 3)
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("# One\nx\n# One\ny")
    (folder / "b.md").write_text("# " + "long " * 300 + "\nx\n# " + "long " * 301 + "\ny")
    found = ids(tmp_path)
    assert len(set(found)) == 4
    assert all(len(id) <= 512 for id in found)
    assert found[0].endswith("a.md#one")


names = st.text(st.sampled_from("aA#%~-1 é.\udcff"), min_size=1, max_size=5).filter(lambda name: name[0] != ".")
headings = st.text(st.sampled_from("aA#~-1 éß!"), max_size=6)
files = st.dictionaries(
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.lists(headings, max_size=5).map(lambda found: "\n".join(f"# {heading}\ntext" for heading in found) or "text"),
    min_size=1,
    max_size=5,
)


def written(root: Path, content: dict[tuple[str, ...], str]) -> dict[Path, list[str]]:
    """The ids of each file."""
    paths = []
    for parts, text in content.items():
        path = root.joinpath(*(f"{part}_" for part in parts[:-1]), parts[-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return {path: ids(path, format="markdown") for path in paths}


@settings(deadline=None, max_examples=25)
@given(files, files)
def test_whatever_files_are_called_and_hold_ids_are_unique_and_their_own(
    content: dict[tuple[str, ...], str], more: dict[tuple[str, ...], str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.path.realpath(folder))
        alone = written(root, content)
        every = [id for found in alone.values() for id in found]
        assert len(set(every)) == len(every)
        assert sorted(ids(root, format="markdown")) == sorted(every)
        siblings = written(root / "more", more)
        assert {path: ids(path, format="markdown") for path in alone} == alone
        with_siblings = ids(root, format="markdown")
        assert len(set(with_siblings)) == len(with_siblings) == len(every) + sum(map(len, siblings.values()))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["a", "b", "a~2", "a#2", "~"]), max_size=12))
def test_records_without_an_id_are_told_apart_whatever_they_say(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        found = ids(path)
        assert len(set(found)) == len(found) == len(texts)
        assert ids(path) == found
