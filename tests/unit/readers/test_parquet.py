from __future__ import annotations

import datetime
import decimal
import importlib.util
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gristmill.readers import read, total_bytes
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)
    return path


def test_types_become_json(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 11, 24, 8, 30, tzinfo=datetime.UTC)
    row = {
        "id": 7,
        "text": "你好",
        "at": moment,
        "day": moment.date(),
        "price": decimal.Decimal("9.90"),
        "tags": ["a", "b"],
        "nested": {"x": 1.5},
        "gone": float("nan"),
        "version": 3,
    }
    (document,) = read([write(tmp_path / "a.parquet", [row])])
    assert document == Document(
        id="7",
        text="你好",
        version=3,
        metadata={
            "at": "2026-11-24T08:30:00+00:00",
            "day": "2026-11-24",
            "price": 9.9,
            "tags": ["a", "b"],
            "nested": {"x": 1.5},
        },
    )


def test_a_bad_row_is_named_and_its_neighbours_are_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "1", "text": "a", "blob": b"x"},
        {"id": "2", "text": None},
        {"id": "3", "text": "c"},
    ]
    first, second, third = read([write(tmp_path / "a.parquet", rows)])
    assert isinstance(first, Rejection)
    assert (
        first.reason
        == "metadata: metadata.blob: expected JSON (string, number, boolean, null, list, object), got bytes; "
        "decode it to text, or leave it out"
    )
    assert isinstance(second, Rejection)
    assert (second.position, second.id) == (2, "2")
    assert third == Document(id="3", text="c")


def test_row_batches_stream_in_order_and_the_meter_ends_at_the_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [{"id": n, "text": f"text {n}"} for n in range(1_000)], row_group_size=300)
    seen: list[int] = []
    assert [item.id for item in read([path], on_bytes=seen.append)] == [str(n) for n in range(1_000)]
    assert seen == sorted(seen)
    assert seen[-1] == path.stat().st_size == total_bytes([path])


def test_a_file_that_is_no_parquet_is_rejected_and_the_next_one_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    write(tmp_path / "b.parquet", [{"id": 1, "text": "a"}])
    broken, document = read([tmp_path])
    assert isinstance(broken, Rejection)
    assert broken.reason.startswith("Parquet: expected a readable file, got ")
    assert document == Document(id="1", text="a")


def test_without_pyarrow_the_way_out_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", [{"id": 1, "text": "a"}])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"needs pyarrow.*pip install 'gristmill\[files\]'"):
        read([path])
    (rejection,) = read([tmp_path])
    assert "pip install 'gristmill[files]'" in str(rejection)


def columns(**values: Any) -> Any:
    return pyarrow.table({"text": pyarrow.array(["one", "two", "three"]), **values})


def write_table(path: Path, table: Any, **how: Any) -> Path:
    parquet.write_table(table, path, **how)
    return path


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (pyarrow.array([0, 10_000_000, 1], pyarrow.date32()), "'k': expected a value of type date32"),
        (pyarrow.array([0, 2**62, 1], pyarrow.timestamp("us")), r"'k': expected a value of type timestamp\[us\]"),
        (pyarrow.array([0, 2**62, 1], pyarrow.duration("s")), r"'k': expected a value of type duration\[s\]"),
        (pyarrow.array([1.0, float("inf"), 2.0]), "finite number"),
        (pyarrow.array([[1.0], [float("-inf")], []]), "finite number"),
        (pyarrow.array([None, b"\xff", None], pyarrow.binary()), "metadata"),
        (pyarrow.array(["a", "\0", "b"]), "NUL"),
        (pyarrow.array([[("a", 1)], [("a", 1), ("a", 2)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())), "'k'"),
        (pyarrow.array([b"a", b"\xff", b"b"]).view(pyarrow.string()), "'k': expected a value of type"),
    ],
)
def test_a_value_that_python_or_json_does_not_have_costs_its_own_row(tmp_path: Path, values: Any, reason: str) -> None:
    first, bad, third = read([write_table(tmp_path / "a.parquet", columns(k=values))])
    assert [getattr(item, "text", None) for item in (first, third)] == ["one", "three"]
    assert isinstance(bad, Rejection)
    assert bad.position == 2
    assert re.search(reason, bad.reason), bad.reason


def test_nanoseconds_are_kept_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where pandas is not installed, Python has no type for them.
    monkeypatch.setitem(sys.modules, "pandas", None)
    at = pyarrow.array([1, 1_700_000_000_123_456_789, None], pyarrow.timestamp("ns"))
    documents = list(read([write_table(tmp_path / "a.parquet", columns(at=at))]))
    assert [str(item.metadata.get("at", ""))[:29] for item in documents if isinstance(item, Document)] == [
        "1970-01-01T00:00:00.000000001",
        "2023-11-14T22:13:20.123456789",
        "",
    ]


def test_a_map_becomes_an_object(tmp_path: Path) -> None:
    pairs = pyarrow.array([[("a", 1), ("b", 2)], None, []], pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    first, *_ = read([write_table(tmp_path / "a.parquet", columns(k=pairs))])
    assert isinstance(first, Document)
    assert first.metadata == {"k": {"a": 1, "b": 2}}


def repeated(value: Any, times: int) -> Any:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * times, pyarrow.int32()), pyarrow.array([value]))


def in_one_row(values: Any) -> Any:
    return pyarrow.ListArray.from_arrays([0, len(values)], values)


BOMBS = {
    "a text for many rows": lambda: {"text": repeated("x" * 6_000_000, 250)},
    "a metadata value for many rows": lambda: {"text": ["a"] * 250, "k": repeated("x" * 6_000_000, 250)},
    "one row of many strings": lambda: {"text": ["a"], "k": in_one_row(repeated("x" * 500_000, 3000))},
    "one row of many numbers": lambda: {"text": ["a"], "k": in_one_row(np.zeros(16_000_000, np.int64))},
    "plain pages": lambda: {"text": pyarrow.array(["x" * 1_000_000] * 80)},
}


#: Kept: what was allocated from one may outlive the test.
POOLS: list[Any] = []


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_that_says_much_is_refused_by_name_in_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bomb.parquet"
    how = {"use_dictionary": False} if kind == "plain pages" else {}
    write_table(path, pyarrow.table(BOMBS[kind]()), compression="zstd", store_schema=False, **how)
    assert path.stat().st_size < 20_000
    default = pyarrow.default_memory_pool()
    pool = pyarrow.proxy_memory_pool(default)
    POOLS.append(pool)
    pyarrow.set_memory_pool(pool)
    tracemalloc.start()
    try:
        reasons = {item.reason if isinstance(item, Rejection) else "" for item in read([path])}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        pyarrow.set_memory_pool(default)
    assert "" not in reasons
    assert all(re.search(r"expected .*, got ", reason) for reason in reasons)
    assert peak + pool.max_memory() < 100_000_000


def test_a_row_group_that_cannot_be_read_costs_its_own_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": str(n), "text": f"text {n} " * 50} for n in range(30)]
    path = write(tmp_path / "a.parquet", rows, row_group_size=10, compression="none", use_dictionary=False)
    raw = bytearray(path.read_bytes())
    at = parquet.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    raw[at : at + 40] = b"\xff" * 40
    path.write_bytes(bytes(raw))
    items = list(read([path]))
    bad = [item for item in items if isinstance(item, Rejection)]
    assert [item.id for item in items if isinstance(item, Document)] == [str(n) for n in (*range(10), *range(20, 30))]
    assert [item.position for item in bad] == [11]
    assert bad[0].reason.endswith("rows 11 to 20 were not read")


def test_columns_beyond_the_bound_or_of_one_name_are_refused(tmp_path: Path) -> None:
    wide = pyarrow.schema([(f"c{n}", pyarrow.int8()) for n in range(16_385)]).empty_table()
    (rejection,) = read([write_table(tmp_path / "wide.parquet", wide, write_statistics=False)])
    assert "schema: expected at most 16384 columns, got 16385" in str(rejection)
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    (rejection,) = read([write_table(tmp_path / "twice.parquet", twice)])
    assert "'text': expected the column once" in str(rejection)
