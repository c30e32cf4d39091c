"""Values as applications have them, into plain JSON: what Qdrant stores and what its filters compare.

    str bool None · int of 64 bits         as they are
    float                                  as it is; a whole number below 2^53 as integer (as in RFC 8785), so that 2024.0,
                                           which pandas makes of 2024 beside a gap, is found as 2024
    Decimal                                the number whose shortest form is this very decimal, else text
    datetime, pandas.Timestamp             ISO 8601 with an offset, in microseconds; without a zone it is taken as UTC
    date · time · timedelta                `2024-02-29` · `08:30:00` · seconds
    UUID, paths, IP addresses              text
    Enum                                   its value
    numpy and pyarrow scalars              what they hold
    list, tuple, set, numpy array, Series  list (sets sorted, so that equal ones stay equal)
    NaN, pandas.NaT, pandas.NA             null

Documents and filters share this, so a filter with the value that was stored finds it. Other packages are recognised by name
and never imported. What comes out is left as it is by a second pass.
"""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import operator
import pathlib
import uuid
from collections.abc import Mapping
from enum import Enum
from functools import singledispatch
from typing import Any

from gristmill_schemas.limits import MAX_METADATA_DEPTH

#: Whole numbers that a double holds exactly.
_EXACT = 2**53
#: Units of numpy's times that Python's own cannot hold.
_FINER_THAN_US = ("[ns]", "[ps]", "[fs]", "[as]")


def clean_text(value: Any) -> str:
    """Return `value` if it is a string without NUL bytes and lone surrogates; ValueError names the place if not."""
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {type(value).__name__}")
    if is_clean(value):
        return value
    if (at := value.find("\0")) >= 0:
        raise ValueError(f"expected text without NUL bytes, got one at character {at}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected valid Unicode, got the lone surrogate {value[error.start]!r} at character {error.start}"
        ) from None
    return value


def is_clean(text: str) -> bool:
    """Whether a text is without NUL bytes and lone surrogates."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@singledispatch
def plain(value: Any, path: str, depth: int = 1) -> Any:
    """The value as plain JSON.

    Args:
        value: anything of the table above; lists and mappings may hold each other.
        path: where it stands, such as `metadata`; errors say it.
        depth: levels of nesting above it, itself included.

    Raises:
        ValueError: naming the path, what came and what was expected. Integers must fit into 64 bits, floats must not be
            infinite, keys must be strings, nesting is bounded.
    """
    held = native(value, path)
    if held is value:
        raise ValueError(
            f"{path}: expected JSON (string, number, boolean, null, list, object), got {type(value).__name__}"
            f"{_way_out(value)}"
        )
    return plain(held, path, depth)


@plain.register(type(None))
@plain.register(bool)
def _itself(value: Any, path: str, depth: int = 1) -> Any:
    return value


@plain.register
def _text(value: str, path: str, depth: int = 1) -> str:
    try:
        return str.__str__(clean_text(value))  # without what a subclass adds
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@plain.register
def _integer(value: int, path: str, depth: int = 1) -> int:
    if not -(2**63) <= value < 2**63:
        shown = f"{value}" if abs(value) < 10**40 else f"one of {value.bit_length()} bits"
        raise ValueError(f"{path}: expected an integer of 64 bits, got {shown}; as text it can be longer")
    return operator.index(value) if type(value) is int else int.__int__(value)


@plain.register
def _number(value: float, path: str, depth: int = 1) -> int | float | None:
    if value != value:
        return None
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{path}: expected a finite number, got {value}")
    return int(value) if abs(value) < _EXACT and value == int(value) else float.__float__(value)


@plain.register
def _decimal(value: decimal.Decimal, path: str, depth: int = 1) -> int | float | str | None:
    if not value.is_finite():
        return _number(float("nan") if value.is_nan() else float(value), path)
    if value.adjusted() < 19 and value == value.to_integral_value() and -(2**63) <= int(value) < 2**63:
        return int(value)
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else str(value)


@plain.register
def _moment(value: datetime.datetime, path: str, depth: int = 1) -> str | None:
    try:
        return None if native(value, path) is None else with_zone(value).isoformat()
    except OverflowError:
        raise ValueError(f"{path}: expected a time of the years 1 to 9999, got {value}") from None


@plain.register(datetime.date)
@plain.register(datetime.time)
def _iso(value: datetime.date | datetime.time, path: str, depth: int = 1) -> str:
    return value.isoformat()


@plain.register
def _seconds(value: datetime.timedelta, path: str, depth: int = 1) -> int | float | None:
    return _number(value.total_seconds(), path)


@plain.register(uuid.UUID)
@plain.register(pathlib.PurePath)
@plain.register(ipaddress.IPv4Address)
@plain.register(ipaddress.IPv6Address)
def _named(value: object, path: str, depth: int = 1) -> str:
    return _text(str(value), path)


@plain.register
def _member(value: Enum, path: str, depth: int = 1) -> Any:
    return plain(native(value, path), path, depth)


@plain.register(Mapping)
def _object(value: Mapping[Any, Any], path: str, depth: int = 1) -> dict[str, Any]:
    _bound(depth, path)
    return {_key(key, path): plain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}


@plain.register(list)
@plain.register(tuple)
def _list(value: list[Any] | tuple[Any, ...], path: str, depth: int = 1) -> list[Any]:
    _bound(depth, path)
    return [plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]


@plain.register(set)
@plain.register(frozenset)
def _set(value: set[Any] | frozenset[Any], path: str, depth: int = 1) -> list[Any]:
    return sorted(_list(list(value), path, depth), key=lambda item: (type(item).__name__, str(item)))


def with_zone(value: datetime.datetime) -> datetime.datetime:
    """A plain datetime with a zone that RFC 3339 can write.

    Pandas' nanoseconds are cut, since Qdrant compares microseconds. Raises OverflowError outside of the years 1 to 9999.
    """
    moment = datetime.datetime.combine(
        datetime.date(value.year, value.month, value.day),
        datetime.time(value.hour, value.minute, value.second, value.microsecond),
    )
    offset = value.utcoffset()
    if offset is None or not offset.total_seconds() % 60:
        return moment.replace(tzinfo=datetime.timezone(offset or datetime.timedelta()))
    return (moment - offset).replace(tzinfo=datetime.UTC)  # local mean time, before there were zones


def _bound(depth: int, path: str) -> None:
    if depth > MAX_METADATA_DEPTH:
        raise ValueError(f"{path}: expected nesting of at most {MAX_METADATA_DEPTH} levels")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{path}: expected string keys, got {key!r} ({type(key).__name__})")
    return _text(key, f"{path} key {key!r}")


def native(value: Any, path: str) -> Any:
    """What a member of an Enum, or a scalar or column of another package, holds, as Python has it; NaT and NA are None.

    Anything else comes back as it is. Raises ValueError naming the path where Python has no such value.
    """
    if isinstance(value, Enum):
        return native(value.value, path)
    if type(value).__name__ in {"NaTType", "NAType"}:
        return None
    match type(value).__module__.partition(".")[0]:
        case "numpy" if hasattr(value, "dtype"):
            return _of_numpy(value, path)
        case "pandas" if hasattr(value, "tolist"):
            return value.tolist()
        case "polars" if hasattr(value, "to_list"):
            return value.to_list()
        case "pyarrow" if hasattr(value, "as_py"):
            return value.as_py()
    return value


def _of_numpy(value: Any, path: str) -> Any:
    if value.dtype.kind in "cV":
        return value
    if getattr(value, "ndim", 0):
        return list(value) if value.dtype.kind in "mMO" else value.tolist()
    if value.dtype.kind in "mM" and value.dtype.str.endswith(_FINER_THAN_US):
        value = value.astype(f"{value.dtype.kind}8[us]")
    held = value.tolist()
    if value.dtype.kind in "mM" and isinstance(held, int):
        raise ValueError(f"{path}: expected a time of the years 1 to 9999, with a unit, got {value!r}")
    return float(value) if type(held) is type(value) and value.dtype.kind == "f" else held  # longdouble holds itself


def _way_out(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "; decode it to text, or leave it out"
    if hasattr(value, "model_dump"):
        return "; pass its fields, as `model_dump()` gives them"
    return "; pass its text or its fields"
