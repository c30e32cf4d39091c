"""Places: within a radius, a box or a polygon. A document's place is `{"lat": 52.52, "lon": 13.41}` in its metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qdrant_client import models

from gristmill_schemas.plain import native
from gristmill_schemas.validation import shown

_BOUNDS = {"lat": 90.0, "north": 90.0, "south": 90.0, "lon": 180.0, "west": 180.0, "east": 180.0}
_PLACE = "{'lat': 52.52, 'lon': 13.41}"
_RADIUS = "{'lat': 52.52, 'lon': 13.41, 'meters': 500}"
_BOX = "{'north': 52.6, 'south': 52.4, 'west': 13.2, 'east': 13.6}"
_POLYGON = f"a list of at least three places such as {_PLACE}, or {{'exterior': […], 'interiors': [[…]]}} for holes"
#: Corners of the smallest polygon.
_CORNERS = 3


def radius(path: str, value: Any) -> models.Condition:
    """Places nearer than so many meters: `{"lat": 52.52, "lon": 13.41, "meters": 500}`."""
    numbers = _numbers(value, ("lat", "lon", "meters"), _RADIUS)
    if numbers["meters"] <= 0:
        raise ValueError(f"expected meters above 0, got {shown(value['meters'])}")
    around = models.GeoRadius(center=_point(numbers), radius=numbers["meters"])
    return models.FieldCondition(key=path, geo_radius=around)


def box(path: str, value: Any) -> models.Condition:
    """Places between latitudes and longitudes; where west is above east it crosses the date line."""
    numbers = _numbers(value, ("north", "south", "west", "east"), _BOX)
    if numbers["south"] >= numbers["north"]:
        raise ValueError(f"expected north above south, got {shown(value, 200)}")
    if numbers["west"] == numbers["east"]:
        raise ValueError(f"expected west and east that differ, got {shown(value, 200)}")
    corners = models.GeoBoundingBox(
        top_left=models.GeoPoint(lat=numbers["north"], lon=numbers["west"]),
        bottom_right=models.GeoPoint(lat=numbers["south"], lon=numbers["east"]),
    )
    return models.FieldCondition(key=path, geo_bounding_box=corners)


def polygon(path: str, value: Any) -> models.Condition:
    """Places within a polygon, which may have holes; it is closed by itself."""
    if isinstance(value, Mapping):
        if set(value) != {"exterior", "interiors"} or not _is_list(value["interiors"]):
            raise ValueError(f"expected {_POLYGON}, got {shown(dict(value), 200)}")
        holes = [_ring(f"interiors[{n}]: ", ring) for n, ring in enumerate(value["interiors"])]
        shape = models.GeoPolygon(exterior=_ring("exterior: ", value["exterior"]), interiors=holes or None)
    else:
        shape = models.GeoPolygon(exterior=_ring("", value))
    return models.FieldCondition(key=path, geo_polygon=shape)


def _ring(at: str, value: Any) -> models.GeoLineString:
    if not _is_list(value):
        raise ValueError(f"{at}expected {_POLYGON}, got {shown(value, 200)}")
    points = [_place(f"{at}[{number}]: ", each) for number, each in enumerate(value)]
    if len({(point.lat, point.lon) for point in points}) < _CORNERS:
        raise ValueError(f"{at}expected {_POLYGON}, got {shown(value, 200)}")
    return models.GeoLineString(points=points if points[0] == points[-1] else [*points, points[0]])


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _place(at: str, value: Any) -> models.GeoPoint:
    try:
        return _point(_numbers(value, ("lat", "lon"), _PLACE))
    except ValueError as error:
        raise ValueError(f"{at}{error}") from None


def _point(numbers: Mapping[str, float]) -> models.GeoPoint:
    return models.GeoPoint(lat=numbers["lat"], lon=numbers["lon"])


def _numbers(value: Any, names: tuple[str, ...], example: str) -> dict[str, float]:
    """The named numbers of a mapping, which has no other."""
    if not isinstance(value, Mapping) or set(value) != set(names):
        what = shown(dict(value) if isinstance(value, Mapping) else value, 200)
        swapped = "; which of two numbers is the latitude they do not say" if _is_list(value) else ""
        raise ValueError(f"expected {example}, got {what}{swapped}")
    return {name: _number(name, value[name]) for name in names}


def _number(name: str, value: Any) -> float:
    held, most = native(value, name), _BOUNDS.get(name, math.inf)
    try:
        number = math.nan if isinstance(held, bool | str) else float(held)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and abs(number) <= most):
        expected = "a finite number" if math.isinf(most) else f"a number from {-most:g} to {most:g}"
        raise ValueError(f"{name}: expected {expected}, got {shown(value)}")
    return number
