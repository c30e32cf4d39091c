"""What the cells of CSV columns are: text, unless types are declared or inferred.

    auto                   infer every column from all of its cells, before the first document; what was found is said
    year=integer,day=date  declare these columns; a cell that does not fit is its row's failure
    auto,zip=text          both
    text                   all columns are text (the default)

Inferred is only what loses nothing: `007`, `+86 …`, whole numbers as long as phone numbers, columns with names such as `zip`
or `order_id`, and columns in which a single cell is something else stay text. Dates are those of ISO 8601. In a typed column
`NA`, `N/A`, `null`, `NULL`, `None` and `NaN` are missing values, as an empty cell always is.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from gristmill.readers.files.lines import BadLine
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.plain import with_zone
from gristmill_schemas.validation import shown

#: What `types=` takes.
TypesGiven = str | Mapping[str, str] | Iterable[str]


class ColumnType(StrEnum):
    """What a column's cells become."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"


#: What pandas, SQL and Python call them.
_ALIASES: Final = {
    **dict.fromkeys(("str", "string", "varchar", "object", "category", "keyword"), ColumnType.TEXT),
    **dict.fromkeys(("int", "int64", "int32", "bigint", "long", "whole"), ColumnType.INTEGER),
    **dict.fromkeys(("float", "float64", "double", "decimal", "numeric", "real"), ColumnType.NUMBER),
    **dict.fromkeys(("bool",), ColumnType.BOOLEAN),
    **dict.fromkeys(("timestamp", "timestamptz", "time", "datetime64"), ColumnType.DATETIME),
}
_MISSING: Final = frozenset({"NA", "N/A", "n/a", "null", "NULL", "None", "NaN", "nan"})
#: Whole numbers of more digits may be phone numbers, accounts or ids.
_MAX_INFERRED_DIGITS: Final = 9
#: Columns whose cells name things, whatever they look like.
_NAMES_THINGS: Final = re.compile(
    r"(?:^|[\s_.-])(?:ids?|uuid|keys?|codes?|zip|zipcode|postcode|postal|plz|phones?|tel|telephone|mobile|fax|isbn|issn|doi|sku|ean|"
    r"upc|ssn|iban|account|konto|version|serial|barcode|nr|no)(?:$|[\s_.-])|编号|编码|代码|电话|手机|邮编|证号|账号|版本",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d*)")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_PLAIN_NUMBER: Final = re.compile(
    rf"-?(?:0|[1-9]\d{{0,{_MAX_INFERRED_DIGITS - 1}}})|-?(?:0|[1-9]\d{{0,14}})\.\d{{1,15}}"
)
_DATE: Final = re.compile(r"(\d{4})([-/]?)(\d\d?)\2(\d\d?)")
_DAY_FIRST: Final = re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4})")
_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "y", "t", "1", "on", "是"), True),
    **dict.fromkeys(("false", "no", "n", "f", "0", "off", "否"), False),
}


def _integer(cell: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,19}", cell) or not -(2**63) <= int(cell) < 2**63:
        raise ValueError
    return int(cell)


def _number(cell: str) -> float | int:
    if not _NUMBER.fullmatch(cell) or float(cell) in (float("inf"), float("-inf")):
        raise ValueError
    return _integer(cell) if re.fullmatch(r"[+-]?\d{1,18}", cell) else float(cell)


def _boolean(cell: str) -> bool:
    if (found := _WORDS.get(cell.lower())) is None:
        raise ValueError
    return found


def _date(cell: str) -> str:
    if found := _DATE.fullmatch(cell):
        year, _, month, day = found.groups()
    elif found := _DAY_FIRST.fullmatch(cell):
        day, month, year = found.groups()
    else:
        raise ValueError
    return datetime.date(int(year), int(month), int(day)).isoformat()


def _datetime(cell: str) -> str:
    return with_zone(datetime.datetime.fromisoformat(cell)).isoformat()


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a type's cells are read."""

    convert: Callable[[str], Any]
    #: What is expected, for messages.
    expected: str
    #: Whether a cell says by itself that it is of this type, and is written back as it was.
    tells: Callable[[str], bool]


def _fits(convert: Callable[[str], Any], shape: str) -> Callable[[str], bool]:
    """Whether a cell has this shape and can be converted."""
    pattern = re.compile(shape, re.IGNORECASE)

    def tells(cell: str) -> bool:
        try:
            return bool(pattern.fullmatch(cell)) and convert(cell) is not None
        except (ValueError, OverflowError):
            return False

    return tells


#: In the order in which they are preferred.
_READINGS: MappingProxyType[ColumnType, _Reading] = MappingProxyType(
    {
        ColumnType.INTEGER: _Reading(
            _integer,
            "a whole number of 64 bits",
            lambda cell: bool(_INTEGER.fullmatch(cell)) and len(cell.lstrip("-")) <= _MAX_INFERRED_DIGITS,
        ),
        ColumnType.NUMBER: _Reading(
            _number, "a number such as -1.5 or 2e3", lambda cell: bool(_PLAIN_NUMBER.fullmatch(cell))
        ),
        ColumnType.BOOLEAN: _Reading(_boolean, "true or false, yes or no, 1 or 0", _fits(_boolean, "true|false")),
        ColumnType.DATE: _Reading(
            _date, "a date such as 2024-02-29, 2024/2/29 or 29.2.2024", _fits(_date, r"\d{4}-\d\d-\d\d")
        ),
        ColumnType.DATETIME: _Reading(
            _datetime,
            "a time such as 2024-02-29T08:30:00+08:00",
            _fits(_datetime, r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?"),
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Types:
    """What the caller asked for."""

    auto: bool = False
    declared: Mapping[str, ColumnType] = field(default_factory=dict)

    def of_columns(self, columns: Sequence[str], own: Iterable[str]) -> dict[str, ColumnType]:
        """The declared types of a file's columns.

        Args:
            columns: its header.
            own: the columns whose types are known: id, text, metadata, tenant and version.

        Raises:
            BadLine: one is declared that the file has not, or that is not to be declared.
        """
        for name in self.declared:
            if name not in columns:
                near = difflib.get_close_matches(name, columns, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise BadLine(f"types: expected columns of the header, got {shown(name)}{hint}", 1)
            if name in own:
                raise BadLine(f"types: expected a column of metadata, got {name!r}, whose type is known", 1)
        return dict(self.declared)


def types_given(given: TypesGiven | None) -> Types:
    """Types as callers write them.

    Raises:
        InvalidInput: there is no such type; the message names the one that is near.
    """
    if given is None:
        return Types()
    pairs = given.items() if isinstance(given, Mapping) else _pairs([given] if isinstance(given, str) else given)
    auto, declared = False, dict[str, ColumnType]()
    for column, name in pairs:
        if column:
            declared[column] = _type_named(name, column)
        elif name.strip().lower() == "auto":
            auto = True
        elif name.strip().lower() != "text":
            raise InvalidInput(f"types: expected auto, text or COLUMN=TYPE, got {shown(name)}", field="types")
    return Types(auto, declared)


def _pairs(given: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in given:
        for part in filter(str.strip, text.split(",")):
            column, _, name = part.rpartition("=")
            yield column.strip(), name


def _type_named(name: object, column: str) -> ColumnType:
    plain = str(getattr(name, "__name__", name)).strip().lower()
    found = _ALIASES.get(plain) or next((each for each in ColumnType if each == plain), None)
    if found is None:
        near = difflib.get_close_matches(plain, [*ColumnType, *_ALIASES], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InvalidInput(
            f"types: {column}: expected one of {', '.join(ColumnType)}, got {shown(name)}{hint}", field="types"
        )
    return found


def convert(cells: dict[str, Any], types: Mapping[str, ColumnType]) -> None:
    """Replace the cells of typed columns by their values; missing ones are taken out.

    Raises:
        BadLine: a cell does not fit; the message names its column.
    """
    for name, kind in types.items():
        if (cell := cells.get(name)) is None or kind is ColumnType.TEXT:
            continue
        bare = cell.strip()
        if not bare or bare in _MISSING:
            del cells[name]
            continue
        try:
            cells[name] = _READINGS[kind].convert(bare)
        except (ValueError, OverflowError):
            raise BadLine(
                f"{name!r}: expected {_READINGS[kind].expected}, got {shown(cell)}; --types {name}=text keeps it as it is"
            ) from None


class Inference:
    """Looks at all the cells of some columns; what is left of the types is what they are."""

    def __init__(self, columns: Iterable[str]) -> None:
        self.rows = 0
        self._left = {name: list(_READINGS) for name in columns if not _names_things(name)}
        self._seen: set[str] = set()

    def look(self, cells: Mapping[str, str]) -> None:
        """One row's cells that are not empty."""
        self.rows += 1
        for name in [name for name in self._left if name in cells]:
            cell = cells[name].strip()
            if cell and cell not in _MISSING:
                self._seen.add(name)
                left = [kind for kind in self._left[name] if _READINGS[kind].tells(cell)]
                if left:
                    self._left[name] = left
                else:
                    del self._left[name]

    def found(self) -> dict[str, ColumnType]:
        """The types of the columns that are not text."""
        return {name: left[0] for name, left in self._left.items() if name in self._seen}


def _names_things(column: str) -> bool:
    return bool(_NAMES_THINGS.search(_CAMEL.sub("_", column)))


def described(label: str, types: Mapping[str, ColumnType], rows: int) -> str:
    """What was inferred, for people."""
    found = ", ".join(f"{shown(name)[1:-1]}: {kind}" for name, kind in list(types.items())[:20])
    more = f" and {len(types) - 20} more" if len(types) > 20 else ""
    what = f"{found}{more}; all other columns are text" if types else "all columns are text"
    return f"types of {label}: {what} (from {rows:,} rows); --types COLUMN=TYPE says otherwise"
