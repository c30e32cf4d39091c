"""Whether there is anything under a key, and how much.

Qdrant does not tell an absent key from an empty list, except by counting, and there local mode and the server differ; for
what is null it looks into lists or not, as there is an index or not. The conditions here mean the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from gristmill.search.filters.ranges import BOUNDS
from gristmill.search.filters.values import nothing
from gristmill_schemas.plain import native
from gristmill_schemas.validation import shown

#: Most that Qdrant counts to: its bounds are 64-bit numbers.
_MOST = 2**63 - 1
_COUNT = f"a number of items, or bounds of it such as {{'gte': 2}} ({', '.join(BOUNDS)})"


def empty(path: str, value: Any) -> models.Condition:
    """Nothing there, or something."""
    return _unless(nothing(path), value)


def null(path: str, value: Any) -> models.Condition:
    """Null itself, or not."""
    return _unless(models.Filter(must=[nothing(path), _has_null(path)]), value)


def missing(path: str, value: Any) -> models.Condition:
    """No such key (or a list without items), or one whatever it holds."""
    return _unless(models.Filter(must=[nothing(path)], must_not=[_has_null(path)]), value)


def _has_null(path: str) -> models.Condition:
    return models.IsNullCondition(is_null=models.PayloadField(key=path))


def _unless(condition: models.Condition, value: Any) -> models.Condition:
    asked = native(value, "value")
    if not isinstance(asked, bool):
        raise ValueError(f"expected True or False, got {shown(value)}")
    return condition if asked else models.Filter(must_not=[condition])


def count(path: str, value: Any) -> models.Condition:
    """How many items a list has; a single value counts as one, nothing as none."""
    bounds = _counts(value)
    counted = models.FieldCondition(key=path, values_count=models.ValuesCount(**bounds))
    none_fits = bounds.get("gt", -1) < 0 and bounds.get("gte", 0) <= 0
    return models.Filter(should=[counted, nothing(path)]) if none_fits else counted


def _counts(value: Any) -> dict[str, int]:
    asked = native(value, "value")
    given = dict(asked) if isinstance(asked, Mapping) else {"gte": asked, "lte": asked}
    bounds = {name: native(bound, "value") for name, bound in given.items()}
    if not bounds or not set(bounds) <= set(BOUNDS) or not all(map(_is_count, bounds.values())):
        raise ValueError(f"expected {_COUNT}, got {shown(asked, 200)}")
    lowest = max(bounds.get("gte", 0), bounds.get("gt", -1) + 1)
    if lowest > min(bounds.get("lte", _MOST), bounds.get("lt", _MOST + 1) - 1):
        raise ValueError(f"expected bounds with a number in between, got {shown(asked, 200)}")
    return bounds


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
