"""Parquet, through pyarrow: the format's reference reader, which streams row batches and keeps the types.

Times become ISO 8601 text, decimals numbers where those are exact; null and NaN (pandas' null) are missing values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gristmill.readers.base import Item, Options
from gristmill.readers.files.source import Source
from gristmill.readers.records import plain, to_document

#: Rows held as Python objects at a time.
BATCH_ROWS = 256


def read_parquet(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file; positions are row numbers from 1."""
    import pyarrow
    from pyarrow import parquet

    row, size, reported = 0, source.path.stat().st_size, 0
    try:
        with parquet.ParquetFile(source.path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for record in batch.to_pylist():
                    row += 1
                    yield to_document(_present(record), source, row, options)
                # pyarrow reads where it likes; rows stand for bytes.
                share = size * row // file.metadata.num_rows
                source.meter.add(share - reported)
                reported = share
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        after = f" after row {row}; the rest of the file was not read" if row else ""
        yield source.reject(row, f"Parquet: expected a readable file, got {str(error).splitlines()[0]}{after}")


def _present(record: dict[str, Any]) -> dict[str, Any]:
    values = {name: plain(value) for name, value in record.items()}
    return {name: value for name, value in values.items() if value is not None}
