"""Data frames, through narwhals, which reads pandas, polars, Arrow, Modin and cuDF alike; and Hugging Face datasets.

Types are kept: times, dates, decimals and numbers become metadata as in documents (`gristmill_schemas.plain`). Nulls, NaN,
NaT and NA are missing values. Rows are converted as they are taken.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gristmill.readers.base import Item, Options, record_of
from gristmill.readers.files.source import Source
from gristmill.readers.records import to_document
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import native
from gristmill_schemas.validation import shown

#: Rows of a Hugging Face dataset that are held as Python objects at a time.
_BATCH_ROWS = 256
#: Columns that are the document's own, if they are there.
_OWN = ("metadata", "tenant", "version")


def from_frame(
    frame: Any,
    *,
    id: str | None = "id",
    text: str = "text",
    metadata: Collection[str] | None = None,
    name: str = "frame",
) -> Iterator[Item]:
    """Documents of a data frame's rows.

    Args:
        frame: of pandas, polars (not lazy), Arrow or whatever else narwhals reads; or a Hugging Face dataset.
        id: column of the id, or pandas' named index; None: derived from the text, the same on every reading.
        text: column of the text.
        metadata: columns that become metadata; None: all others. `tenant` and `version` are the document's own.
        name: what rejections and derived ids begin with.

    Returns:
        An iterator of documents and, in their place, rejections with row (from 1) and reason, as `enqueue` takes them.

    Raises:
        InvalidInput: it is no frame, or has no such column; the message names the nearest. Nothing has been read then.
    """
    columns, rows = _opened(frame, id)
    wanted = _wanted(columns, id, text, metadata)
    options = Options(id_field="" if id is None else id, text_field=text)
    source = Source(Path(name), name)
    return (
        record_of(source, position, partial(_document, row, wanted, source, position, options))
        for position, row in enumerate(rows, 1)
    )


def _document(row: Mapping[Any, Any], wanted: Collection[str], source: Source, position: int, options: Options) -> Item:
    present = {str(name): value for name, value in row.items() if str(name) in wanted and not _missing(value)}
    return to_document(present, source, position, options)


def _missing(value: Any) -> bool:
    return native(value, "value") is None or (isinstance(value, float) and value != value)


def _opened(frame: Any, id: str | None) -> tuple[list[str], Iterable[Mapping[Any, Any]]]:
    """Columns and rows of whatever it is."""
    if type(frame).__module__.partition(".")[0] == "datasets":
        return _dataset(frame)
    if importlib.util.find_spec("narwhals") is None:
        raise InvalidInput(
            "reading data frames needs narwhals, which is not installed; run: pip install 'gristmill[files]'",
            field="frame",
        )
    import narwhals

    if (index := getattr(frame, "index", None)) is not None and id is not None and getattr(index, "name", None) == id:
        frame = frame.reset_index()
    try:
        found = narwhals.from_native(frame, allow_series=False)
        if isinstance(found, narwhals.LazyFrame):
            raise InvalidInput("frame: expected an eager frame, got a lazy one; pass `frame.collect()`", field="frame")
        return [str(column) for column in found.columns], found.iter_rows(named=True, buffer_size=_BATCH_ROWS)
    except TypeError:
        kind = type(frame).__name__
        hint = "; `enqueue` takes lists of documents as they are" if isinstance(frame, list | tuple | dict) else ""
        raise InvalidInput(
            f"frame: expected a data frame (pandas, polars, Arrow, Hugging Face), got {kind}{hint}", field="frame"
        ) from None
    except narwhals.exceptions.NarwhalsError as error:
        told = " ".join(str(error).split())[:200]
        raise InvalidInput(f"frame: expected one with each column once, got: {told}", field="frame") from None


def _dataset(frame: Any) -> tuple[list[str], Iterable[Mapping[Any, Any]]]:
    columns = getattr(frame, "column_names", None)
    if isinstance(columns, Mapping):
        splits = ", ".join(repr(split) for split in columns)
        raise InvalidInput(f"frame: expected one split of the dataset, got all of them: {splits}", field="frame")
    if hasattr(frame, "with_format") and hasattr(frame, "num_rows"):
        batches = frame.with_format("arrow").iter(batch_size=_BATCH_ROWS)
        return list(columns or ()), (row for batch in batches for row in batch.to_pylist())
    return list(columns or ()), frame


def _wanted(columns: list[str], id: str | None, text: str, metadata: Collection[str] | None) -> set[str]:
    """The columns that are read."""
    if isinstance(metadata, str):
        metadata = [metadata]
    asked = {"text": [text], "id": [] if id is None else [id], "metadata": list(metadata or ())}
    for field, names in asked.items():
        for column in names:
            if column not in columns:
                raise InvalidInput(f"{field}: {_no_column(column, columns, field)}", field=field)
    own = [*asked["id"], text, *(column for column in _OWN if column in columns)]
    return set(columns) if metadata is None else {*own, *asked["metadata"]}


def _no_column(column: object, columns: list[str], field: str) -> str:
    near = difflib.get_close_matches(str(column), columns, n=1) or [
        each for each in columns if each.casefold() == str(column).casefold()
    ]
    there = ", ".join(map(shown, columns[:8])) + (", …" if len(columns) > 8 else "") or "none"
    hint = f"; did you mean {near[0]!r}?" if near else ""
    derived = "; id=None derives ids from the texts" if field == "id" else ""
    return f"expected the name of a column, got {shown(column)}, but there are {there}{hint}{derived}"
