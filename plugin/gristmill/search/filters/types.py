"""What a filter may look like, for type checkers: `where: Conditions = {"year": {"gte": 2020}}`."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from qdrant_client import models

#: What an application may pass as `where`.
Where = Mapping[str, Any] | models.Condition

Value = (
    str
    | int
    | float
    | decimal.Decimal
    | datetime.date
    | datetime.time
    | datetime.timedelta
    | uuid.UUID
    | enum.Enum
    | None
)
#: A number, or a date: a `datetime` (UTC without a zone), a `date` (all of its day), or text in ISO form.
Bound = int | float | decimal.Decimal | datetime.date | datetime.timedelta | str


class Place(TypedDict):
    """A place, as documents have it in their metadata; degrees."""

    lat: float
    lon: float


class Radius(Place):
    """All places within so many meters of one."""

    meters: float


class Box(TypedDict):
    """All places between two latitudes and two longitudes; degrees. With `west` above `east` it crosses the date line."""

    north: float
    south: float
    west: float
    east: float


class Holed(TypedDict):
    """A polygon with holes."""

    exterior: Sequence[Place]
    interiors: Sequence[Sequence[Place]]


class Count(TypedDict, total=False):
    """Bounds of a number of items."""

    gt: int
    gte: int
    lt: int
    lte: int


Operators = TypedDict(
    "Operators",
    {
        "gt": Bound,
        "gte": Bound,
        "lt": Bound,
        "lte": Bound,
        "not": "Condition",
        "any": "Sequence[Condition]",
        "all": "Sequence[Condition]",
        "text": str,
        "text_any": str,
        "phrase": str,
        "missing": bool,
        "null": bool,
        "empty": bool,
        "count": int | Count,
        "nested": "Conditions | models.Filter",
        "radius": Radius,
        "box": Box,
        "polygon": Sequence[Place] | Holed,
    },
    total=False,
)
#: What is wanted of one key.
Condition = Value | Sequence[Value] | Operators | models.Match | models.RangeInterface
#: A filter written out, with `all`, `any` and `not` among its keys.
Conditions = Mapping[str, "Condition | Sequence[Conditions | models.Filter] | Conditions | models.Filter"]
