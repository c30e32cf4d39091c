"""What callers pass, checked at the door: every refusal is an InvalidInput that names the argument and what came."""

from __future__ import annotations

import numbers
import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel

from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import clean_identifier, clean_text, shown

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

#: Packages whose frames and columns are iterable, but not by document.
_FRAMES = frozenset({"pandas", "polars", "pyarrow", "datasets"})


def refuse(field: str, expected: str, got: object) -> InvalidInput:
    """The error for an argument that is not what was expected."""
    return InvalidInput(f"{field}: expected {expected}, got {shown(got, 200)}", field=field)


def identifier(field: str, value: object) -> str:
    """An id, a tenant or a collection's name; integers become strings, as in documents."""
    try:
        return clean_identifier(value)
    except ValueError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from None


def tenant_name(value: object) -> str | None:
    """A tenant, or None."""
    return None if value is None else identifier("tenant", value)


def is_one_id(ids: object) -> bool:
    """Whether this is one id, as databases and frames have them, and no iterable of ids."""
    return isinstance(ids, str | numbers.Integral | uuid.UUID) and not isinstance(ids, bool)


def one_or_many_ids(field: str, ids: object) -> Iterator[str]:
    """Ids one by one: a string, an integer or a UUID is one, any other iterable holds many. Checked as they are taken."""
    if is_one_id(ids):
        return iter([identifier(field, ids)])
    if isinstance(ids, bytes | bytearray | Mapping | BaseModel) or not isinstance(ids, Iterable):
        raise refuse(field, "an id (a string or an integer) or an iterable of ids", ids)
    return (identifier(f"{field}[{position}]", each) for position, each in enumerate(ids))


def one_or_many(field: str, items: object, one: type | tuple[type, ...], expected: str) -> Iterable[Any]:
    """Items as an iterable: what is an instance of `one` is a single item. Text is never a list of its characters."""
    if isinstance(items, one):
        return [items]
    if type(items).__module__.partition(".")[0] in _FRAMES:
        raise refuse(field, f"{expected}; `gristmill.readers.from_frame` makes them of a data frame", type(items))
    if isinstance(items, str | bytes | bytearray | Mapping | BaseModel) or not isinstance(items, Iterable):
        raise refuse(field, expected, items)
    return items


def text(field: str, value: object, max_bytes: int) -> str:
    """A text with something in it, of at most so many bytes."""
    try:
        found = clean_text(value)
    except ValueError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from None
    if not found.strip():
        raise InvalidInput(f"{field}: expected text, got an empty or blank string", field=field)
    if (size := len(found.encode())) > max_bytes:
        raise InvalidInput(f"{field}: expected at most {max_bytes} bytes, got {size}", field=field)
    return found


def integer(field: str, value: object, least: int, most: int = 2**31 - 1) -> int:
    """An integer within bounds; numpy's are taken too, booleans are not."""
    try:
        found = operator.index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise refuse(field, "an integer", value) from None
    if isinstance(value, bool) or not least <= found <= most:
        raise refuse(field, f"an integer from {least} to {most}", value)
    return found


def number(field: str, value: object, least: float | None = None) -> float:
    """A finite number, no less than `least`."""
    if isinstance(value, bool | str | bytes):
        raise refuse(field, "a number", value)
    try:
        found = float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, OverflowError):
        raise refuse(field, "a number", value) from None
    if found != found or found in (float("inf"), float("-inf")) or (least is not None and found < least):
        raise refuse(field, "a finite number" if least is None else f"a finite number from {least:g} on", value)
    return found


def seconds(field: str, value: object) -> float | None:
    """A time to wait, or None for as long as it takes."""
    return None if value is None else number(field, value, 0)


def callback(field: str, value: Callable[..., T] | None) -> Callable[..., T] | None:
    """A function, or None."""
    if value is not None and not callable(value):
        raise refuse(field, "a function", value)
    return value


def one_of(field: str, value: object, choices: type[E]) -> E:
    """A member of an enumeration, or its value."""
    try:
        return choices(value if isinstance(value, str) else "")
    except ValueError:
        raise refuse(field, " or ".join(repr(str(each)) for each in choices), value) from None


def flag(field: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise refuse(field, "True or False", value)
    return value
