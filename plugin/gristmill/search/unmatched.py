"""Why a filter finds nothing: a key that no document has, a value of another type, a tenant without documents.

Looked for only where nothing was found, once per collection and set of keys, with a few requests that each read at most
a page of metadata; what goes wrong with them is nobody's business. Mistakes go to the log as warnings, which show no
values; what values there are is said at level INFO, as the command line does.
"""

from __future__ import annotations

import datetime
import decimal
import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.search.filters import Where, compile_filter, condition
from gristmill.search.filters.ranges import BOUNDS
from gristmill.store.collections import Collections
from gristmill.store.connection import store_errors
from gristmill.store.paths import parts_of, payload_path, reached
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import GristmillError
from gristmill_schemas.plain import native
from gristmill_schemas.validation import SYSTEM_KEY

log = logging.getLogger(__name__)

#: Points whose metadata is looked at.
_SAMPLE = 64
#: Keys and values that a sentence names.
_NAMED = 6
#: Sets of keys that are remembered as told.
_REMEMBERED = 1000
#: What filters of others put before a key of the metadata.
_ELSEWHERE = ("metadata", "payload", "meta", "fields", "properties", "attributes")
#: Operators that what is not there may satisfy.
_OF_ABSENCE = frozenset({"not", "any", "all", "missing", "null", "empty", "count"})
#: The value in a ready-made filter, which is not looked at.
_UNKNOWN = object()


class Unmatched:
    """Tells, once, why filters of this client found nothing."""

    def __init__(self, store: QdrantClient, collections: Collections) -> None:
        self._store = store
        self._collections = collections
        self._told: set[tuple[str, ...]] = set()

    def tell(self, collection: str, where: Where | None, tenant: str | None) -> None:
        """Log why a filter found nothing, unless it was told before."""
        asked = tuple(sorted({key for key, _ in _asked(where)}))
        told = (collection, *asked, "" if tenant is None else "of a tenant")
        if (not asked and tenant is None) or told in self._told or len(self._told) >= _REMEMBERED:
            return
        self._told.add(told)
        try:
            spec = self._collections.get(collection)
            for level, sentence in _reasons(_Look(self._store, spec, tenant), where):
                log.log(level, "collection %r: %s", collection, sentence)
        except GristmillError as error:
            log.debug("collection %r: why its filter found nothing cannot be told: %s", collection, error)


def _asked(where: Where | None) -> Iterator[tuple[str, Any]]:
    """Keys with what is wanted of them; what is wanted of one of several is not looked at, nor what must not be."""
    if not isinstance(where, Mapping):
        return iter((key, _UNKNOWN) for key in _keys(where))
    return chain.from_iterable(_entry(key, value) for key, value in where.items())


def _entry(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key == "all":
        yield from chain.from_iterable(map(_asked, value))
    elif key == "any":
        yield from ((key, _UNKNOWN) for each in value for key, _ in _asked(each))
    elif key != "not":
        yield str(key), value


def _keys(where: object) -> Iterator[str]:
    if isinstance(where, models.FieldCondition):
        yield where.key
    elif isinstance(where, models.Filter):
        for part in (where.must, where.should):
            for each in part if isinstance(part, list) else [part]:
                yield from _keys(each)


def _reasons(look: _Look, where: Where | None) -> Iterator[tuple[int, str]]:
    if look.finds(compile_filter(where, look.tenant)):
        return  # it was the threshold, or the offset
    if not look.finds(compile_filter(None, look.tenant)):
        yield logging.INFO, "it holds no documents" + (f" of the tenant {look.tenant!r}" if look.tenant else "")
        return
    reasons = [reason for key, value in _asked(where) if (reason := _reason(look, key, value))]
    yield from reasons or [(logging.INFO, "each condition of where finds documents, all of them together none")]


def _reason(look: _Look, key: str, value: Any) -> tuple[int, str] | None:
    found = look.values(key)
    if not found:
        return None if _wants_absence(value) else (logging.WARNING, _no_such_key(look, key))
    if value is _UNKNOWN or look.finds(_alone(look, key, value)):
        return None
    if sentence := _other_kind(key, native(value, key), found):
        return logging.WARNING, sentence
    shown = _listed(dict.fromkeys(map(repr, found)))
    return logging.INFO, f"where.{key}: no document has what is asked for here; among what there is: {shown}"


def _wants_absence(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and not _OF_ABSENCE.isdisjoint(value))


def _alone(look: _Look, key: str, value: Any) -> models.Filter:
    mine = compile_filter(None, look.tenant)
    return models.Filter(must=[condition(key, value), *([mine] if mine else [])])


def _no_such_key(look: _Look, key: str) -> str:
    beginning = f"where.{key}: no document has this key"
    keys = list(dict.fromkeys(path for payload in look.payloads() for path in _paths(payload)))
    if meant := _nearest(key, keys):
        return f"{beginning}; did you mean {meant!r}?"
    last = _parts(key)[-1:]
    if last in (["id"], ["_id"], ["ids"]):
        return f"{beginning}; ids of documents are not among their metadata, and `get` takes them"
    if last == ["tenant"]:
        return f"{beginning}; tenants are not among the metadata, and `tenant=` names one"
    return f"{beginning}; among those there are: {_listed(map(repr, keys))}" if keys else f"{beginning}, nor any other"


def _nearest(key: str, keys: list[str]) -> str | None:
    """The key that is probably meant: without what others put before it, in other letters, deeper down, or much alike."""
    parts = _parts(key)
    while len(parts) > 1 and parts[0] in _ELSEWHERE:
        parts = parts[1:]
    plain = {_plain(path): path for path in reversed(keys)}
    if found := plain.get(_plain(".".join(parts))) or plain.get(_plain(key)):
        return found
    if deeper := next((path for path in keys if _parts(path)[-1] == parts[-1]), None):
        return deeper
    close = difflib.get_close_matches(_plain(".".join(parts)), plain, n=1, cutoff=0.7)
    return plain[close[0]] if close else None


def _plain(key: str) -> str:
    return re.sub(r"[\W_]+", "", key.casefold())


def _other_kind(key: str, value: Any, found: list[Any]) -> str | None:
    """What to say where all the values seen are of another kind than the filter's."""
    wanted, there = _kind_wanted(value), {_kind(each) for each in found}
    if wanted is None or wanted in there:
        return None
    if there == {"objects"}:
        inner = dict.fromkeys(name for each in found for name in each)
        return f"where.{key}: expected a key inside of it, such as {_listed(repr(f'{key}.{name}') for name in inner)}"
    what = " and ".join(sorted(there))
    way_out = "; ask for text, or store numbers: `gristmill ingest --types` reads columns of CSV as such"
    return (
        f"where.{key}: it asks for {wanted}, but documents have {what} there"
        f"{way_out if (wanted, what) == ('numbers', 'text') else ''}"
    )


def _kind_wanted(value: Any) -> str | None:
    if isinstance(value, Mapping):
        kinds = {_kind(native(bound, "")) for bound in value.values()} if set(value) <= set(BOUNDS) else set()
    elif isinstance(value, list | tuple | set | frozenset):
        kinds = {_kind(native(item, "")) for item in value}
    else:
        kinds = {_kind(value)}
    return kinds.pop() if len(kinds) == 1 else None


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float() | decimal.Decimal() | datetime.timedelta():
            return "numbers"
        case Mapping():
            return "objects"
    return "text"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(name[:60] for name in every[:_NAMED]) + (", …" if len(every) > _NAMED else "")


def _parts(key: str) -> list[str]:
    return parts_of(payload_path(key))


def _paths(payload: Mapping[str, Any], above: str = "", depth: int = 3) -> Iterator[str]:
    for name, value in payload.items():
        path = above + (f'"{name}"' if "." in name else name)
        if isinstance(value, Mapping) and value and depth:
            yield from _paths(value, f"{path}.", depth - 1)
        else:
            yield path


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at a collection, as far as a tenant sees it."""

    store: QdrantClient
    spec: CollectionSpec
    tenant: str | None

    def finds(self, where: models.Filter | None) -> bool:
        """Whether any point matches."""
        return bool(self._scroll(where, 1, with_payload=False))

    def payloads(self) -> list[dict[str, Any]]:
        """Metadata of some documents."""
        mine = compile_filter(None, self.tenant)
        hidden = models.PayloadSelectorExclude(exclude=[SYSTEM_KEY, self.spec.text_key])
        return [point.payload or {} for point in self._scroll(mine, _SAMPLE, with_payload=hidden)]

    def values(self, key: str) -> list[Any]:
        """Some of what documents hold under a key; nothing where none has it."""
        path = payload_path(key)
        absent = models.IsEmptyCondition(is_empty=models.PayloadField(key=path))
        mine = compile_filter(None, self.tenant)
        some = self._scroll(models.Filter(must=mine, must_not=[absent]), _SAMPLE, with_payload=[path])
        return [value for point in some for value in reached(point.payload, _parts(key))]

    def _scroll(self, where: models.Filter | None, limit: int, with_payload: Any) -> list[models.Record]:
        with store_errors(self.spec.name):
            return self.store.scroll(
                self.spec.physical, scroll_filter=where, limit=limit, with_payload=with_payload, with_vectors=False
            )[0]
