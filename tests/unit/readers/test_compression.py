"""Compressed files: every format of text in every compression, cut off, damaged, or a bomb."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import lzma
import os
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.readers import read, total_bytes
from gristmill.readers.files.lines import MAX_LINE_CHARS
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    zstd = pytest.importorskip("backports.zstd")

Read = Callable[..., tuple[list[Document], list[Rejection]]]

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": lambda raw: bz2.compress(raw, 1),
    ".xz": lambda raw: lzma.compress(raw, preset=0),
    ".zst": zstd.compress,
}
CONTENT = {
    "a.jsonl": '{"id": 1, "text": "你好"}\n',
    "a.csv": "id,text\n1,你好\n",
    "a.tsv": "id\ttext\n1\t你好\n",
    "a.txt": "你好",
    "a.md": "你好",
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_every_format_of_text_may_be_compressed(tmp_path: Path, name: str, suffix: str, encoding: str) -> None:
    path = tmp_path / f"{name}{suffix.upper() if name == 'a.txt' else suffix}"
    path.write_bytes(PACK[suffix](CONTENT[name].encode(encoding)))
    seen: list[int] = []
    (document,) = read([path], on_bytes=seen.append)
    assert isinstance(document, Document)
    assert document.text == "你好"
    assert seen[-1] == path.stat().st_size == total_bytes([path])


@pytest.mark.parametrize("suffix", PACK)
def test_an_archive_cut_off_gives_what_it_has_and_then_its_failure(tmp_path: Path, suffix: str) -> None:
    lines = "".join(f'{{"id": {n}, "text": "{os.urandom(5_000).hex()}"}}\n' for n in range(60))
    whole = PACK[suffix](lines.encode())
    (tmp_path / f"a.jsonl{suffix}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.jsonl").write_text('{"id": "next", "text": "next"}\n')
    *read_so_far, damaged, after = read([tmp_path])
    assert len(read_so_far) >= 10
    assert isinstance(damaged, Rejection)
    assert damaged.position == 0
    assert damaged.reason.startswith("file: expected a readable one, got ")
    assert damaged.reason.endswith("what follows in it was not read")
    assert after.id == "next"


@pytest.mark.parametrize("suffix", PACK)
def test_what_is_not_compressed_although_its_name_says_so_is_named(read_bytes: Read, suffix: str) -> None:
    documents, (rejection,) = read_bytes(f"a.jsonl{suffix}", '{"id": 1, "text": "plain"}\n')
    assert documents == []
    assert rejection.reason.startswith("file: expected a readable one, got ")


@pytest.mark.parametrize("suffix", PACK)
def test_archives_one_after_another_are_one_file(read_bytes: Read, suffix: str) -> None:
    first, second = (PACK[suffix](f'{{"id": {n}, "text": "t"}}\n'.encode()) for n in (1, 2))
    documents, rejections = read_bytes(f"a.jsonl{suffix}", first + (b"\0" * 8 if suffix == ".xz" else b"") + second)
    assert [document.id for document in documents] == ["1", "2"]
    assert rejections == []


@pytest.mark.parametrize("suffix", PACK)
def test_an_empty_file_holds_nothing(read_bytes: Read, suffix: str) -> None:
    assert read_bytes(f"a.jsonl{suffix}", b"") == ([], [])
    assert read_bytes(f"a.jsonl{suffix}", PACK[suffix](b"")) == ([], [])


def bomb(suffix: str) -> bytes:
    """160 MiB of one line without an end."""
    return PACK[suffix](b'{"text": "') + PACK[suffix](b"x" * (4 * 1024 * 1024)) * 40


@pytest.mark.parametrize("suffix", [".bz2", ".xz", ".zst"])
def test_a_bomb_is_refused_by_name_in_little_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(bomb(suffix))
    assert path.stat().st_size < 160_000
    tracemalloc.start()
    (rejection,) = read([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "compression: expected at most 1000 bytes out for one in, got " in str(rejection)
    assert peak < 10 * MAX_LINE_CHARS


def test_an_archive_that_asks_for_much_memory_is_refused(read_bytes: Read) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    content = bytearray(lzma.compress(b'{"text": "t"}\n', check=lzma.CHECK_NONE, filters=filters))
    # The header of the first block, and in it how large the dictionary is: 3 << 29 bytes.
    content[16] = 37
    content[20:24] = zlib.crc32(content[12:20]).to_bytes(4, "little")
    documents, (rejection,) = read_bytes("a.jsonl.xz", bytes(content))
    assert documents == []
    assert "Memory usage limit" in rejection.reason


def test_without_its_package_zstd_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("Python has it")
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(b'{"text": "t"}\n'))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"reading \.zst needs backports\.zstd.*pip install 'gristmill\[files\]'"):
        read([path])
    (rejection,) = read([tmp_path])
    assert "pip install 'gristmill[files]'" in str(rejection)
