"""CSV and TSV with a header row.

Python's own `csv`, in its strict mode: there a quote that is never closed is an error, where other modes quietly put
the rest of the file into one field. After an error reading resumes at the next line. Cells stay text unless types are
asked for (`column_types`), since what looks like a number may be a postcode; an empty cell is a missing value. A column
`metadata` holds a JSON object, `version` an integer.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gristmill.readers.base import Item, Options, record_of
from gristmill.readers.column_types import ColumnType, Inference, convert, described
from gristmill.readers.files.lines import MAX_LINE_CHARS, BadLine, Text, TooLong, undecoded
from gristmill.readers.files.notes import Notes
from gristmill.readers.files.source import STDIN, Meter, Source
from gristmill.readers.jsonl import parse_object
from gristmill.readers.records import shown_id, to_document
from gristmill_schemas.limits import MAX_TEXT_BYTES

DELIMITERS = ",;\t"
#: As many as a sheet of Excel has.
MAX_COLUMNS = 16_384
#: How far the end of a row beyond the bound is searched for, and in which steps; where one of its quotes is missing, rows
#: that follow would be searched through too.
_MAX_SKIPPED_CHARS = 8 * MAX_LINE_CHARS
_STEP_CHARS = 1024 * 1024


def read_csv(source: Source, options: Options) -> Iterator[Item]:
    """Documents of one file. The delimiter is the one under which the header has the text column."""
    _allow_long_fields()
    with source.open_text(classic=True) as text:
        lines = _Lines(text)
        columns, delimiter = _columns(next(lines, ""), options.text_field)
        table = _Table(columns, lines.encoding, _types(source, options, columns, delimiter))
        yield from _items(csv.reader(lines, delimiter=delimiter, strict=True), lines, table, source, options)


@dataclass(frozen=True, slots=True)
class _Table:
    """What is known of a file's rows."""

    columns: list[str]
    encoding: str
    types: Mapping[str, ColumnType]


def _types(source: Source, options: Options, columns: list[str], delimiter: str) -> Mapping[str, ColumnType]:
    own = {options.id_field, options.text_field, "metadata", "tenant", "version"}
    declared = options.types.of_columns(columns, own)
    if not options.types.auto:
        return declared
    if source.path == STDIN or not source.path.is_file():
        raise BadLine(
            "types: expected a file for auto, which reads it twice, got a pipe; --types COLUMN=TYPE declares them"
        )
    inference = Inference(name for name in columns if name not in own and name not in declared)
    with replace(source, meter=Meter(), notes=Notes()).open_text(classic=True) as text:
        lines = _Lines(text)
        next(lines, "")
        for _, row, _ in _rows(csv.reader(lines, delimiter=delimiter, strict=True), lines):
            if row is not None and len(row) == len(columns):
                inference.look({name: cell for name, cell in zip(columns, row, strict=True) if cell})
    source.notes.say(described(source.label, found := inference.found(), inference.rows))
    return {**found, **declared}


def _allow_long_fields() -> None:
    # The limit is the process's own and 128 KiB by default; it is only ever raised, so nobody else's is cut.
    if csv.field_size_limit() < MAX_TEXT_BYTES:
        csv.field_size_limit(MAX_TEXT_BYTES)


class _Lines(Iterator[str]):
    """Lines for a csv reader, counted, and bounded row by row: a row may have many.

    Bytes that cannot be decoded pass, so that one bad cell does not hide where its row ends.
    """

    def __init__(self, text: Text) -> None:
        self._text = text
        self.encoding = text.encoding
        self.number = 0
        self._row_chars = self._row_quotes = 0

    def __next__(self) -> str:
        line = self._text.readline(MAX_LINE_CHARS + 1)
        if not line:
            raise StopIteration
        self.number += 1
        one_line = self._row_chars == 0
        self._row_chars += len(line)
        if self._row_chars > MAX_LINE_CHARS:
            size = self._row_chars + self._skip_row(line, one_line=one_line)
            raise TooLong(f"row: expected at most {MAX_LINE_CHARS} characters, got {size}")
        self._row_quotes += line.count('"')
        return line

    def _skip_row(self, line: str, *, one_line: bool) -> int:
        """Read to the row's end: where a line ends and all quotes are closed; the only line of a row is all of it."""
        skipped, quotes, ended = 0, self._row_quotes + line.count('"'), line.endswith(self._text.line_end)
        while not (ended and (one_line or quotes % 2 == 0)) and skipped < _MAX_SKIPPED_CHARS:
            if not (line := self._text.readline(_STEP_CHARS)):
                break
            self.number += ended
            skipped += len(line)
            quotes += line.count('"')
            ended = line.endswith(self._text.line_end)
        return skipped

    def begin_row(self) -> None:
        """What comes next is another row's."""
        self._row_chars = self._row_quotes = 0


def _columns(header: str, text_field: str) -> tuple[list[str], str]:
    parsed = {delimiter: _parse_header(header, delimiter) for delimiter in DELIMITERS}
    delimiter = next(
        (mark for mark, names in parsed.items() if text_field in names), max(parsed, key=lambda mark: len(parsed[mark]))
    )
    names = parsed[delimiter]
    if text_field not in names:
        found = ", ".join(map(repr, names[:8])) or (repr(header[:80]) if header else "an empty file")
        raise BadLine(
            f"{text_field}: expected a column of this name in the header, got {found}; --text-field names another", 1
        )
    if len(names) > MAX_COLUMNS:
        raise BadLine(f"header: expected at most {MAX_COLUMNS} columns, got {len(names)}", 1)
    if twice := next((name for name, times in Counter(names).items() if times > 1), None):
        raise BadLine(f"{twice!r}: expected the column once, got it more than once in the header", 1)
    return names, delimiter


def _parse_header(header: str, delimiter: str) -> list[str]:
    try:
        names = next(csv.reader([header], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []
    return [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]


def _rows(rows: Any, lines: _Lines) -> Iterator[tuple[int, list[str] | None, str]]:
    """Each row with its first line; in place of one that cannot be read None and the reason."""
    while True:
        line = lines.number + 1
        lines.begin_row()
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, TooLong) as error:
            through = f" (lines {line} to {lines.number})" if lines.number > line else ""
            yield line, None, f"{'CSV: ' if isinstance(error, csv.Error) else ''}{error}{through}"
            continue
        if row:
            yield line, row, ""


def _items(rows: Any, lines: _Lines, table: _Table, source: Source, options: Options) -> Iterator[Item]:
    for line, row, problem in _rows(rows, lines):
        if row is None:
            yield source.reject(line, problem)
        else:
            yield record_of(source, line, partial(_item, row, table, line, source, options))


def _item(row: list[str], table: _Table, line: int, source: Source, options: Options) -> Item:
    if len(row) != len(table.columns):
        return source.reject(line, f"row: expected {len(table.columns)} cells as in the header, got {len(row)}")
    cells: dict[str, Any] = {name: cell for name, cell in zip(table.columns, row, strict=True) if cell}
    try:
        for name, cell in cells.items():
            if bad := undecoded(cell, table.encoding, of="cell"):
                raise BadLine(f"{name!r}: {str(bad).removeprefix('encoding: ')}")
        convert(cells, table.types)
        _convert(cells)
    except BadLine as error:
        return source.reject(line, str(error), shown_id(cells.get(options.id_field)))
    return to_document(cells, source, line, options)


def _convert(cells: dict[str, Any]) -> None:
    if "metadata" in cells:
        cells["metadata"] = parse_object(cells["metadata"])
    if "version" in cells:
        try:
            cells["version"] = int(cells["version"])
        except ValueError:
            raise BadLine(f"version: expected an integer, got {cells['version'][:40]!r}") from None
