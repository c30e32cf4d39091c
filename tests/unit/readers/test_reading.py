from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from gristmill.readers import Format, read, total_bytes
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput


def line(id: int, text: str = "text") -> str:
    return json.dumps({"id": id, "text": text}) + "\n"


def ids(items: object) -> list[str | None]:
    return [item.id for item in items]  # type: ignore[attr-defined]  # any iterable of items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    (docs / "b" / "deep").mkdir(parents=True)
    (docs / ".hidden").mkdir()
    (docs / "c.txt").write_text("c")
    (docs / "a.md").write_text("a")
    (docs / "b" / "deep" / "x.jsonl").write_text(line(1) + line(2))
    (docs / "b" / "a.txt").write_text("ba")
    (docs / "b" / "picture.PNG").write_bytes(b"\x89PNG")
    (docs / ".hidden" / "no.txt").write_text("no")
    (docs / ".no.txt").write_text("no")
    return docs


def test_a_folder_is_read_recursively_and_sorted_without_hidden_files(folder: Path) -> None:
    reading = read([folder], root=folder.parent)
    assert ids(reading) == ["docs/a.md", "docs/b/a.txt", "1", "2", "docs/c.txt"]
    assert reading.notes == ["skipped 3 entries: 1 image (.png), 2 hidden"]


def test_ids_do_not_depend_on_how_the_folder_was_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ids(read([folder]))
    monkeypatch.chdir(folder)
    assert ids(read(["."])) == expected


def test_links_to_folders_do_not_lead_in_circles(folder: Path) -> None:
    before = ids(read([folder]))
    (folder / "b" / "again").symlink_to(folder)
    assert ids(read([folder])) == before


def test_a_format_overrides_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "export.log"
    path.write_text(line(1))
    assert ids(read([path], format="jsonl")) == ["1"]


def test_compressed_files_are_read_as_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((line(1) + '{"text": "no id"}\n').encode()))
    seen: list[int] = []
    first, second = read([path], root=tmp_path, on_bytes=seen.append)
    assert first.id == "1"
    assert str(second.id).startswith("a.jsonl.gz#")
    assert seen[-1] == path.stat().st_size == total_bytes([path])


def test_a_damaged_archive_gives_what_it_has_and_then_a_rejection(tmp_path: Path) -> None:
    whole = gzip.compress("".join(line(n, os.urandom(50_000).hex()) for n in range(20)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jsonl").write_text(line(99))
    *_, damaged, after = read([tmp_path])
    assert isinstance(damaged, Rejection)
    assert "what follows in it was not read" in damaged.reason
    assert after.id == "99"


def test_progress_counts_every_byte_of_every_file(folder: Path) -> None:
    (folder / "b" / "picture.PNG").unlink()
    seen: list[int] = []
    list(read([folder, folder / "c.txt"], on_bytes=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == total_bytes([folder, folder / "c.txt"])


def test_how_much_standard_input_holds_is_unknown(folder: Path) -> None:
    assert total_bytes([folder, "-"]) is None


def test_wrong_arguments_fail_at_once_and_not_while_reading(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").touch()
    with pytest.raises(InvalidInput, match=r"path: expected a file or folder, got .*missing.*does not exist"):
        read([tmp_path / "missing"])
    with pytest.raises(InvalidInput, match=r"a\.xyz: suffix: expected one of"):
        read([tmp_path / "a.xyz"])
    with pytest.raises(
        InvalidInput, match="format: expected one of jsonl, json, csv, parquet, text, markdown, html, docs, got 'xml'"
    ):
        read([tmp_path], format="xml")
    with pytest.raises(InvalidInput, match="format: expected a file for parquet"):
        read(["-"], format="parquet")


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone.jsonl")
    (tmp_path / "b.jsonl").write_text(line(1))
    missing, document = read([tmp_path])
    assert isinstance(missing, Rejection)
    assert "No such file or directory" in missing.reason
    assert isinstance(document, Document)
    assert total_bytes([tmp_path]) == (tmp_path / "b.jsonl").stat().st_size


def test_a_file_name_that_is_no_utf8_is_shown_escaped(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123  # pathlib has no bytes paths
        file.write(b"text!")
    (document,) = read([tmp_path], root=tmp_path)
    assert document.id == "caf%E9.txt"
    (rejection,) = read([tmp_path], encoding="utf-16")
    assert str(getattr(rejection, "source", "")).endswith("caf\\xe9.txt")


def test_memory_stays_bounded_however_long_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        file.writelines(line(n, "x" * 10_000) for n in range(3_000))
    tracemalloc.start()
    count = sum(1 for _ in read([path]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3_000
    assert peak < 3_000_000 < path.stat().st_size / 9


def test_reading_needs_no_heavy_library_until_a_file_asks_for_it() -> None:
    code = "import sys, gristmill.readers; print(sorted({'pyarrow', 'yaml', 'torch', 'celery'} & sys.modules.keys()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_id_that_comes_twice_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(line(1) + line(2))
    (tmp_path / "b.csv").write_text("id,text,tenant\n3,three,\n1,again,\n1,another's,t\n")
    *rest, twice, other = read([tmp_path])
    assert ids(rest) == ["1", "2", "3"]
    assert str(twice).endswith(
        "b.csv:3 (id '1'): id: expected each id once per call, got this one a second time; the first was accepted"
    )
    assert other.id == "1"


def test_a_format_may_be_given_by_name_or_as_a_member(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("a\n\nb")
    for format in ("text", Format.TEXT):
        assert ids(read([path], root=tmp_path, format=format, paragraphs=True)) == ["notes#1", "notes#2"]
