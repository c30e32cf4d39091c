"""CSV and TSV with a header row.

Python's own `csv`, in its strict mode: there a quote that is never closed is an error, where other modes quietly put
the rest of the file into one field. After an error reading resumes at the next line. Cells stay text, since what looks
like a number may be a postcode; an empty cell is a missing value. A column `metadata` holds a JSON object, `version` an
integer.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from gristmill.readers.base import Item, Options, Source
from gristmill.readers.jsonl import parse_object
from gristmill.readers.lines import MAX_LINE_BYTES, BadLine
from gristmill.readers.records import to_document
from gristmill_schemas.limits import MAX_TEXT_BYTES

DELIMITERS = ",;\t"
#: What `surrogateescape` makes of bytes that are no UTF-8.
_FOREIGN = re.compile("[\udc80-\udcff]")


def read_csv(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file. The delimiter is the one under which the header has the text column."""
    _allow_long_fields()
    with source.open() as stream:
        lines = _lines(stream)
        header = next(lines, "")
        try:
            columns, delimiter = _columns(header, options.text_field)
        except BadLine as error:
            yield source.reject(1, str(error))
            return
        yield from _rows(csv.reader(lines, delimiter=delimiter, strict=True), columns, source, options)


def _allow_long_fields() -> None:
    # The limit is the process's own and 128 KiB by default; it is only ever raised, so nobody else's is cut.
    if csv.field_size_limit() < MAX_TEXT_BYTES:
        csv.field_size_limit(MAX_TEXT_BYTES)


def _lines(stream: BinaryIO) -> Iterator[str]:
    # Bytes that are no UTF-8 pass as surrogates, so that one bad cell does not hide where its row ends.
    first = stream.readline(MAX_LINE_BYTES).removeprefix(codecs.BOM_UTF8)
    while first:
        yield first.decode("utf-8", "surrogateescape")
        first = stream.readline(MAX_LINE_BYTES)


def _columns(header: str, text_field: str) -> tuple[list[str], str]:
    parsed = {delimiter: _parse_header(header, delimiter) for delimiter in DELIMITERS}
    delimiter = next(
        (mark for mark, names in parsed.items() if text_field in names), max(parsed, key=lambda mark: len(parsed[mark]))
    )
    names = parsed[delimiter]
    if text_field not in names:
        found = ", ".join(map(repr, names[:8])) or (repr(header[:80]) if header else "an empty file")
        raise BadLine(
            f"{text_field}: expected a column of this name in the header, got {found}; another column can be named"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadLine(f"{twice!r}: expected the column once, got it more than once in the header")
    return names, delimiter


def _parse_header(header: str, delimiter: str) -> list[str]:
    try:
        names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    return [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]


def _rows(rows: Any, columns: list[str], source: Source, options: Options) -> Iterator[Item]:
    while True:
        # The header was read before the csv reader began to count.
        line = rows.line_num + 2
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            through = rows.line_num + 1
            yield source.reject(line, f"CSV: {error}{f' (lines {line} to {through})' if through > line else ''}")
            continue
        if row:
            yield _item(row, columns, line, source, options)


def _item(row: list[str], columns: list[str], line: int, source: Source, options: Options) -> Item:
    if len(row) != len(columns):
        return source.reject(line, f"row: expected {len(columns)} cells as in the header, got {len(row)}")
    cells: dict[str, Any] = {name: cell for name, cell in zip(columns, row, strict=True) if cell}
    try:
        for name, cell in cells.items():
            _check_encoding(name, cell)
        _convert(cells)
    except BadLine as error:
        return source.reject(line, str(error), cells.get(options.id_field))
    return to_document(cells, source, line, options)


def _check_encoding(name: str, cell: str) -> None:
    if foreign := _FOREIGN.search(cell):
        byte = ord(foreign[0]) - 0xDC00
        raise BadLine(
            f"{name!r}: expected UTF-8, got the byte 0x{byte:02x} at character {foreign.start() + 1} of the cell"
        )


def _convert(cells: dict[str, Any]) -> None:
    if "metadata" in cells:
        cells["metadata"] = parse_object(cells["metadata"])
    if "version" in cells:
        try:
            cells["version"] = int(cells["version"])
        except ValueError:
            raise BadLine(f"version: expected an integer, got {cells['version'][:40]!r}") from None
