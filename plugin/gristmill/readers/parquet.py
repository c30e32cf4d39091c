"""Parquet, through pyarrow: the format's reference reader, which streams row batches and keeps the types.

Times become ISO 8601 text, decimals numbers where those are exact; null and NaN (pandas' null) are missing values; a map is
an object.

**Bounds.** Nine kilobytes can say "this mebibyte, 1500 times". So strings stay in their dictionaries until a row becomes
Python objects; rows are converted together only as far as what they decode to is small; a row that is beyond all limits
is refused without being decoded; and a row group that grows more than a thousandfold is refused by what the file says
of itself.

**Faults.** A batch that cannot be converted is halved down to the row, which fails alone with its column's name; a row
group that cannot be read costs its own rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from gristmill.readers.base import Item, Options, describe, record_of
from gristmill.readers.files.compression import MAX_RATIO
from gristmill.readers.files.lines import BadLine
from gristmill.readers.files.source import Source
from gristmill.readers.records import plain, to_document

if TYPE_CHECKING:
    import pyarrow as pa

#: Most rows decoded at a time, and about how many bytes of them.
BATCH_ROWS: Final = 256
_BATCH_BYTES: Final = 16 * 1024 * 1024
#: Largest row: the largest text and metadata, with room.
MAX_ROW_BYTES: Final = 2 * 1024 * 1024
#: As many as a sheet of Excel has.
MAX_COLUMNS: Final = 16_384
#: Below this size a row group may grow by any factor.
_RATIO_FROM_BYTES: Final = 64 * 1024 * 1024
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
#: How deep a column may be nested, far beyond what metadata may be.
_MAX_DEPTH: Final = 64


def read_parquet(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file; positions are row numbers from 1."""

    try:
        with source.path.open("rb") as raw, _opened(raw) as file:
            yield from _row_groups(file, source, options)
    except Exception as error:  # noqa: BLE001  # a damaged file raises this and that
        reason = str(error) if isinstance(error, BadLine) else f"expected a readable file, got {describe(error)}"
        yield source.reject(0, f"Parquet: {reason}")


def _opened(raw: BinaryIO) -> Any:
    from pyarrow import parquet

    with parquet.ParquetFile(raw) as file:
        texts = _texts(file)
    raw.seek(0)
    # Neither whole column chunks in memory, nor a map of a file that another process may cut off.
    return parquet.ParquetFile(raw, read_dictionary=texts, pre_buffer=False, buffer_size=1024 * 1024)


def _row_groups(file: Any, source: Source, options: Options) -> Iterator[Item]:
    size, row = source.path.stat().st_size, 0
    for group in range(file.metadata.num_row_groups):
        yield from _row_group(file, group, row, source, options)
        after = row + file.metadata.row_group(group).num_rows
        # pyarrow reads where it likes; rows stand for bytes.
        source.meter.add(size * after // file.metadata.num_rows - size * row // file.metadata.num_rows)
        row = after


def _texts(file: Any) -> list[str]:
    """Paths of the columns that hold strings or bytes.

    Raises:
        BadLine: the columns are too many, or two have one name.
    """
    names = file.schema_arrow.names
    if len(names) > MAX_COLUMNS:
        raise BadLine(f"schema: expected at most {MAX_COLUMNS} columns, got {len(names)}")
    if twice := next((name for name, times in Counter(names).items() if times > 1), None):
        raise BadLine(f"{twice!r}: expected the column once, got it more than once")
    columns = (file.schema.column(at) for at in range(len(file.schema.names)))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _row_group(file: Any, group: int, before: int, source: Source, options: Options) -> Iterator[Item]:
    row, rows = before, file.metadata.row_group(group).num_rows
    try:
        _check_growth(file, group)
        for batch in file.iter_batches(_batch_rows(file, group), row_groups=[group]):
            for record in _records(batch):
                row += 1
                yield record_of(source, row, partial(_item, record, source, row, options))
    except Exception as error:  # noqa: BLE001  # of whatever kind: the other row groups are as good as ever
        reason = str(error) if isinstance(error, BadLine) else f"expected readable rows, got {describe(error)}"
        yield source.reject(row + 1, f"Parquet: {reason}; rows {row + 1} to {before + rows} were not read")


def _check_growth(file: Any, group: int) -> None:
    about = file.metadata.row_group(group)
    for at in range(about.num_columns):
        chunk, column = about.column(at), file.schema.column(at)
        # What is not nested is decoded a few rows at a time, whatever its length.
        width = _WIDTHS.get(chunk.physical_type) or max(1, column.length)
        flat = column.max_repetition_level == 0 and width <= 64
        size = max(chunk.total_uncompressed_size, 0 if flat else chunk.num_values * width)
        if size > max(_RATIO_FROM_BYTES, MAX_RATIO * chunk.total_compressed_size):
            raise BadLine(
                f"column {column.path!r}: expected at most {MAX_RATIO} bytes out for one in, got {size} out of "
                f"{chunk.total_compressed_size}"
            )


def _batch_rows(file: Any, group: int) -> int:
    about = file.metadata.row_group(group)
    average = max(1, about.total_byte_size // max(1, about.num_rows))
    return int(max(1, min(BATCH_ROWS, _BATCH_BYTES // average)))


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | BadLine]:
    """The rows of a batch, each alone where they cannot be converted together."""
    size = sum(_decoded_bytes(column) for column in batch.columns)
    if batch.num_rows == 1:
        yield _single(batch, size)
    elif size <= MAX_ROW_BYTES and (rows := _together(batch)) is not None:
        yield from rows
    else:
        half = batch.num_rows // 2
        yield from _records(batch.slice(0, half))
        yield from _records(batch.slice(half))


def _together(batch: pa.RecordBatch) -> list[dict[str, Any]] | None:
    try:
        return batch.to_pylist(maps_as_pydicts="strict")  # type: ignore[no-any-return]  # pyarrow has no types
    except Exception:  # noqa: BLE001  # one of the rows; which, and why, comes out when it is alone
        return None


def _single(row: pa.RecordBatch, size: int) -> dict[str, Any] | BadLine:
    if size > MAX_ROW_BYTES:
        return BadLine(f"row: expected at most {MAX_ROW_BYTES} bytes, got {size}")
    try:
        return {name: _value(name, column[0]) for name, column in zip(row.schema.names, row.columns, strict=True)}
    except BadLine as error:
        return error


def _value(name: str, scalar: Any) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except Exception as error:  # noqa: BLE001  # a value that Python cannot hold
        if (text := _nanoseconds(scalar)) is not None:
            return text
        raise BadLine(f"{name!r}: expected a value of type {scalar.type}, got {describe(error)}") from None


def _nanoseconds(scalar: Any) -> str | None:
    """ISO 8601 with nine digits: Python's own times have six."""
    if str(scalar.type).startswith("timestamp[ns"):
        return f"{np.datetime64(scalar.value, 'ns')}{'+00:00' if scalar.type.tz else ''}"
    return None


def _decoded_bytes(array: pa.Array, depth: int = 0) -> int:
    """What an array takes once its dictionaries are replaced by what they stand for."""
    import pyarrow as pa
    from pyarrow import compute

    kind = array.type
    if depth > _MAX_DEPTH:
        raise BadLine(f"schema: expected nesting of at most {_MAX_DEPTH} levels, got more")
    if pa.types.is_dictionary(kind):
        lengths = compute.binary_length(array.dictionary) if len(array.dictionary) else None
        return 0 if lengths is None else int(compute.sum(lengths.take(array.indices.drop_null())).as_py() or 0)
    if pa.types.is_map(kind):
        return _decoded_bytes(_inside(array, array.keys), depth + 1) + _decoded_bytes(
            _inside(array, array.items), depth + 1
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _decoded_bytes(array.flatten(), depth + 1)
    if pa.types.is_struct(kind):
        return sum(_decoded_bytes(field, depth + 1) for field in array.flatten())
    return int(array.nbytes)


def _inside(array: pa.MapArray, values: pa.Array) -> pa.Array:
    # `keys` and `items` are those of the whole batch, whatever slice of it this is.
    first, last = array.offsets[0].as_py(), array.offsets[len(array)].as_py()
    return values.slice(first, last - first)


def _item(record: dict[str, Any] | BadLine, source: Source, row: int, options: Options) -> Item:
    if isinstance(record, BadLine):
        raise record
    values = {name: plain(value) for name, value in record.items()}
    return to_document({name: value for name, value in values.items() if value is not None}, source, row, options)
