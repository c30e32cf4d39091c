"""What there is to read: folders, links, pipes and devices, patterns, addresses; what is passed over is counted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.readers import read, total_bytes
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput


def texts(items: object) -> list[str]:
    return [item.text if isinstance(item, Document) else f"! {item}" for item in items]  # type: ignore[attr-defined]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    return folder


def test_what_a_folder_holds_besides_is_skipped_and_said_by_kind(docs: Path) -> None:
    for name in ("p.png", "q.PNG", "r.jpg", "s.zip", "v.mp4", "Makefile", ".hidden.txt"):
        (docs / name).write_bytes(b"x")
    for folder in (".git", ".venv", "node_modules", "sub/__pycache__"):
        (docs / folder).mkdir()
        (docs / folder / "no.txt").write_text("no")
    reading = read([docs])
    assert texts(reading) == ["a", "b"]
    assert reading.skipped == 11
    assert reading.notes == [
        "skipped 11 entries: 3 images (.png, .jpg), 2 of kinds that are not read (no suffix, .zip), 1 video (.mp4), "
        "3 hidden, 2 excluded"
    ]


def test_excluded_patterns_are_those_of_gitignore(docs: Path) -> None:
    (docs / "sub" / "keep.txt").write_text("keep")
    (docs / "draft.txt").write_text("draft")
    assert texts(read([docs], exclude=["sub/", "draft*"])) == ["a"]
    assert texts(read([docs], exclude=["*.txt", "!a.txt"])) == ["a"]
    assert texts(read([docs], exclude="/sub/b.txt")) == ["a", "draft", "keep"]
    assert total_bytes([docs], exclude=["sub/", "draft*"]) == 1


def test_a_pipe_a_socket_and_a_link_to_a_device_are_skipped_and_never_opened(docs: Path) -> None:
    os.mkfifo(docs / "pipe.txt")
    (docs / "zero.txt").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(docs / "s.txt"))
        reading = read([docs])
        assert texts(reading) == ["a", "b"]
    assert reading.notes == ["skipped 3 entries: 2 pipes, sockets or devices, 1 links to folders or out of the folder"]
    followed = read([docs], follow_links=True)
    assert texts(followed) == ["a", "b"]
    assert followed.notes == ["skipped 3 entries: 3 pipes, sockets or devices"]
    assert read([docs]).total_bytes() == 2


def test_links_out_of_a_folder_are_followed_on_request_and_circles_end(docs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.txt").write_text("e")
    (docs / "inside.txt").symlink_to(docs / "sub" / "b.txt")
    (docs / "out.txt").symlink_to(tmp_path / "elsewhere" / "e.txt")
    (docs / "outside").symlink_to(tmp_path / "elsewhere")
    (docs / "sub" / "round").symlink_to(docs)
    (docs / "self").symlink_to(docs / "self")
    assert texts(read([docs])) == ["a", "b", "b"]
    assert read([docs]).skipped == 0
    reading = read([docs], follow_links=True)
    assert texts(reading) == ["a", "b", "e", "e", "b"]


def test_a_link_that_leads_nowhere_is_that_files_failure(docs: Path) -> None:
    (docs / "0.txt").symlink_to(docs / "gone.txt")
    bad, *rest = read([docs])
    assert isinstance(bad, Rejection)
    assert str(bad).endswith(
        "0.txt:0: file: expected a readable one, got No such file or directory; what follows in it was not read"
    )
    assert texts(rest) == ["a", "b"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_fails_alone(docs: Path) -> None:
    (docs / "a.txt").chmod(0)
    (docs / "sub").chmod(0)
    try:
        first, second = read([docs])
    finally:
        (docs / "sub").chmod(0o700)
    assert "a.txt:0: file: expected a readable one, got Permission denied" in str(first)
    assert "sub:0: folder: expected a readable one, got Permission denied" in str(second)


def test_a_folder_that_vanishes_while_it_is_read_fails_alone(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def refusing(path: Path) -> object:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refusing)
    first, second = read([docs])
    assert texts([first]) == ["a"]
    assert "sub:0: folder: expected a readable one, got Permission denied" in str(second)


def test_a_folder_deeper_than_pythons_stack_is_read(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=here)  # a path of that length is more than the kernel takes at once
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deep.txt", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        (rejection,) = read([tmp_path])
    finally:
        sys.setrecursionlimit(usual)
        # Python's own `rmtree`, which clears up after tests, is recursive.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    assert "expected text to embed" in str(rejection)


def test_a_named_pipe_that_the_caller_names_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=('{"id": 1, "text": "one"}\n',))
    writer.start()
    reading = read([path])
    assert reading.total_bytes() is None
    assert texts(reading) == ["one"]
    writer.join()


def test_a_device_or_socket_that_the_caller_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected a file, folder or pipe, got '/dev/zero', a device or socket"):
        read(["/dev/zero"], format="text")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "s.txt"))
        with pytest.raises(InvalidInput, match="a device or socket"):
            read([tmp_path / "s.txt"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("docs/*.txt", ["a"]),
        ("docs/*", ["a", "b"]),
        ("docs/**", ["a", "b"]),
        ("**/b.txt", ["b"]),
        ("docs/**/*.txt", ["a", "b"]),
        ("do[a-c]s/?.txt", ["a"]),
        ("*/sub/*", ["b"]),
    ],
)
def test_quoted_patterns_are_expanded(
    docs: Path, pattern: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (docs / "p.png").write_bytes(b"x")
    monkeypatch.chdir(docs.parent)
    assert texts(read([pattern])) == expected
    assert texts(read([str(docs.parent / pattern)])) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("brackets")
    assert texts(read([tmp_path / "a[1].txt"])) == ["brackets"]


def test_one_file_named_twice_is_read_once(docs: Path) -> None:
    assert texts(read([docs, docs / "a.txt", docs / ".." / "docs", docs / "*.txt"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("*.nothing", r"path: expected a pattern that something matches, got '\*\.nothing', which nothing does"),
        ("no/**", "which nothing does"),
        ("https://example.org/a.jsonl", "got the address 'https://example.org/a.jsonl': download it first.*ingest -"),
        ("s3://bucket/a.jsonl", r"aws s3 cp"),
        ("hf://datasets/x/y", "address"),
        (Path("http://example.org/a.jsonl"), "address"),
        ("file:///tmp/a.txt", "give the path alone"),
        ("", "path: expected a file or folder"),
        ("a\0b", "path: expected a file or folder"),
        ("x" * 5000, "path: expected a file or folder"),
        ("~/docs", "path: expected a file or folder"),
    ],
)
def test_a_path_that_cannot_be_read_gets_a_sentence(
    path: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=message):
        read([path])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.zip", r"got an archive, 'a\.zip': unpack it first, then name the folder"),
        ("a.tar.gz", "got an archive"),
        ("a.tgz", "got an archive"),
        ("a.parquet.gz", r"expected \.parquet as it is, got it inside \.gz: unpack it first"),
        ("a.png", r"suffix: expected one of \.jsonl, .*, got '\.png'; --format names the format"),
    ],
)
def test_a_file_of_a_kind_that_is_not_read_gets_a_sentence(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InvalidInput, match=message):
        read([tmp_path / name])


def test_wrong_arguments_are_named(docs: Path) -> None:
    with pytest.raises(InvalidInput, match=r"exclude: expected patterns as \.gitignore has them"):
        read([docs], exclude=["!"])
    with pytest.raises(InvalidInput, match="root: expected a folder that holds everything read"):
        read([docs], root=docs / "sub")
    with pytest.raises(InvalidInput, match="paths: expected a path or an iterable of paths, got 5"):
        read(5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidInput, match="path: expected a file or folder, got 5"):
        read([5])  # type: ignore[list-item]  # that is the point


def test_names_that_would_steer_a_terminal_are_shown_escaped(read_bytes: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J\n.jsonl").write_text("no json")
    (rejection,) = read([tmp_path])
    assert "\\x1b[2J\\n.jsonl:1: JSON" in str(rejection)
    assert str(rejection).isprintable()
