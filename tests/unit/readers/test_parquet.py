from __future__ import annotations

import datetime
import decimal
import importlib.util
from pathlib import Path
from typing import Any

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
