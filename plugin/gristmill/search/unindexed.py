"""Filters on fields without a fitting index: said once, and explained where the server refuses them (strict mode).

Looked for once per collection and kind of condition, with one small request; what goes wrong with it is nobody's business.
"""

from __future__ import annotations

import logging
import math
import re
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from qdrant_client import QdrantClient, models

from gristmill.search.filters.fields import Use, uses
from gristmill.store.connection import store_errors
from gristmill.store.paths import first_part
from gristmill_schemas.errors import GristmillError, InvalidInput, StoreRefused
from gristmill_schemas.validation import SYSTEM_KEY

log = logging.getLogger(__name__)

#: Points from which on reading all of them for a filter is worth a word.
MANY_POINTS = 5_000
#: A collection with fewer is looked at again after so long, seconds: it may have grown.
_AGAIN_S = 600.0
#: Conditions that are remembered as settled; later ones are not looked for.
_REMEMBERED = 1000
#: By which a server in strict mode refuses a filter.
_REQUIRED = re.compile(
    r'Index required but not found for "(?P<field>.+)" of one of the following types: \[(?P<types>[^\]]*)\]'
)
_TOO_LARGE = re.compile(r"Filter condition limit reached \(\d+ > \d+\)")


class Unindexed:
    """Looks after filters of this client. Local mode has no indexes, and nothing to say of them."""

    def __init__(self, store: QdrantClient, *, local: bool) -> None:
        self._store = store
        self._local = local
        #: Fields, by collection, that a sentence has named.
        self._told: set[tuple[str, str]] = set()
        #: When a condition is looked at again, by the monotonic clock.
        self._quiet_until_s: dict[tuple[str, Use], float] = {}

    @contextmanager
    def watch(self, collection: str, where: models.Filter | None) -> Iterator[None]:
        """Around the use of a filter.

        Raises:
            InvalidInput: the server refuses the filter; what the block raised else comes as it is.
        """
        try:
            yield
        except StoreRefused as error:
            if refusal := _refusal(collection, where, error):
                raise refusal from error
            raise
        self._tell(collection, [use for use in uses(where) if first_part(use.field) != SYSTEM_KEY])

    def _tell(self, collection: str, asked: Iterable[Use]) -> None:
        now = time.monotonic()
        new = [use for use in dict.fromkeys(asked) if self._quiet_until_s.get((collection, use), 0.0) < now]
        if self._local or not new or len(self._quiet_until_s) >= _REMEMBERED:
            return
        self._quiet_until_s |= {(collection, use): now + _AGAIN_S for use in new}
        try:
            with store_errors(collection):
                info = self._store.get_collection(collection)
        except GristmillError as error:
            log.debug("collection %r: whether its filters have indexes cannot be told: %s", collection, error)
            return
        for use in new:
            self._settle(collection, use, info)

    def _settle(self, collection: str, use: Use, info: models.CollectionInfo) -> None:
        """Say what there is to say; a collection that is small so far is looked at again."""
        served = _serves(info.payload_schema.get(use.field), use)
        sentence = None if served else _problem(collection, use, info)
        if served or sentence:
            self._quiet_until_s[collection, use] = math.inf
        if sentence and (collection, use.field) not in self._told:
            self._told.add((collection, use.field))
            log.warning("collection %r: %s", collection, sentence)


def _problem(collection: str, use: Use, info: models.CollectionInfo) -> str | None:
    """What is bad about a condition that no index serves; None while there are few points to read."""
    there, points = info.payload_schema.get(use.field), info.points_count or 0
    if use.types == ("text",):
        return _of_words(collection, use, there)
    return _of_any(collection, use, there, points) if points >= MANY_POINTS else None


def _serves(there: models.PayloadIndexInfo | None, use: Use) -> bool:
    if there is None or (use.types and there.data_type.value not in use.types):
        return False
    return not use.phrase or bool(getattr(there.params, "phrase_matching", False))


def _of_any(collection: str, use: Use, there: models.PayloadIndexInfo | None, points: int) -> str:
    cost = f"each search reads all of {points:,} points"
    if there is None:
        return f"where.{use.field} has no index, so that {cost}; {_way_out(collection, use)}"
    return (
        f"where.{use.field} has an index of type {there.data_type.value}, and this filter needs one of type "
        f"{' or '.join(use.types)}: {cost}; `{_command('drop', collection, use.field)}`, then {_way_out(collection, use)}"
    )


def _of_words(collection: str, use: Use, there: models.PayloadIndexInfo | None) -> str:
    if there is not None and there.data_type.value == "text":
        return (
            f"where.{use.field}: `phrase` finds nothing by a text index without phrase_matching; "
            f"`{_command('drop', collection, use.field)}`, then {_way_out(collection, use)}"
        )
    return (
        f"where.{use.field}: words are found by an index of type text, which says what a word is, and there is none: "
        f"servers then compare letters, capital and small; {_way_out(collection, use)}"
    )


def _way_out(collection: str, use: Use) -> str:
    kind = use.types[0] if use.types else "keyword"
    if use.phrase:
        options = {"type": kind, "phrase_matching": True}
        return f"client.indexes.create({collection!r}, {{{use.field!r}: {options}}}) makes one"
    return f"`{_command('create', collection, f'{use.field}={kind}')}` makes one, or client.indexes.create"


def _command(verb: str, collection: str, rest: str) -> str:
    return shlex.join(["gristmill", "collections", "index", verb, collection, rest])


def _refusal(collection: str, where: models.Filter | None, error: StoreRefused) -> InvalidInput | None:
    if found := _REQUIRED.search(str(error)):
        use = next((use for use in uses(where) if use.field == found["field"]), Use(found["field"], ()))
        types = " or ".join(sorted(found["types"].split(", ")))
        return InvalidInput(
            f"where.{use.field}: expected a field with an index of type {types}, since "
            f"collection {collection!r} is in strict mode, got one without; {_way_out(collection, use)}",
            field=f"where.{use.field}",
            collection=collection,
        )
    if found := _TOO_LARGE.search(str(error)):
        return InvalidInput(
            f"where: expected fewer conditions, since collection {collection!r} is in strict mode, got more: {found[0]}; "
            "values of one key are one condition as a list",
            field="where",
            collection=collection,
        )
    return None
