"""Filters that adapters add to those of their callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qdrant_client import models

from gristmill.search.filters import Where
from gristmill_schemas.point import ID_PATH, VERSION_PATH

#: What every document meets, for calls that take no empty filter lest it was left out by accident.
EVERYTHING: Final = models.Filter(must=[models.FieldCondition(key=VERSION_PATH, range=models.Range(gte=0))])


def of_ids(ids: Iterable[str]) -> Where:
    """Documents of these ids; of whom, the tenant says."""
    return models.Filter(must=[models.FieldCondition(key=ID_PATH, match=models.MatchAny(any=list(ids)))])


def joined(*filters: Where | None) -> Where | None:
    """What meets all of them; None where there are none."""
    there = [each for each in filters if each is not None]
    if len(there) < 2:
        return there[0] if there else None
    both: Where = {"all": there}
    return both
