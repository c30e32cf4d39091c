"""Registered instructions of a collection, each version once and for ever.

They lie in the collection's own metadata, so they go where it goes, each under a key of its own: Qdrant replaces metadata
key by key, and has nothing that writes only where nothing is. So whoever registers claims the version first, looks whether
somebody else has claimed it too, and goes on only where nobody has: of two, the one who wrote later sees the other, and
whoever sees another withdraws and tries again a little later. A claim of somebody who was killed stays; its version is
passed over.

metadata = {"gristmill": CollectionSpec,
            "gristmill_instruction:faq@2": {"text", "registered_at", "retired_at"},
            "gristmill_instruction:faq@3?<claim>": {"since"}}
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tenacity
from pydantic import ValidationError
from qdrant_client import QdrantClient

from gristmill.store.connection import store_errors
from gristmill_schemas import CollectionSpec, Instruction
from gristmill_schemas.errors import CollectionConflict, InvalidInput
from gristmill_schemas.limits import MAX_INSTRUCTIONS
from gristmill_schemas.validation import explain

log = logging.getLogger(__name__)

_PREFIX = "gristmill_instruction:"
_KEY = re.compile(re.escape(_PREFIX) + r"(?P<name>[^@]+)@(?P<version>[1-9][0-9]{0,9})(?P<claim>\?\w+)?")
#: Pauses before another try, seconds: at random, up to ever longer ones.
_FIRST_S, _LONGEST_S, _TRIES = 0.02, 1.0, 60

_Metadata = Mapping[str, Any]


def stored(instructions: Iterable[Instruction]) -> dict[str, Any]:
    """Instructions as a collection's metadata has them."""
    kept = {"text", "registered_at", "retired_at"}
    return {_key(each): each.model_dump(mode="json", include=kept, exclude_none=True) for each in instructions}


def dated(instruction: Instruction) -> Instruction:
    """The instruction with the time of its registration: now, unless it has one."""
    return instruction.model_copy(update={"registered_at": instruction.registered_at or _now()})


def _now() -> float:
    # Whole milliseconds come back from every server as they were.
    return round(time.time(), 3)


def read_instructions(metadata: _Metadata, collection: str) -> tuple[Instruction, ...]:
    """What is registered, by name and version. What cannot be read is passed over with a line in the log."""
    found: list[Instruction] = []
    for slot, value in _slots(metadata):
        try:
            if not slot.claim:
                named = {**value, "name": slot.name, "version": slot.version}
                found.append(Instruction.model_validate(named, extra="ignore"))
        except (ValidationError, TypeError) as error:
            why = explain(error) if isinstance(error, ValidationError) else "expected an object"
            log.warning("collection %r: instruction %s@%d is passed over: %s", collection, slot.name, slot.version, why)
    return tuple(sorted(found, key=lambda each: (each.name, each.version)))


def newest(instructions: Iterable[Instruction], name: str) -> Instruction | None:
    """What a name alone means: its newest version that is not retired."""
    usable = [each for each in instructions if each.name == name and each.retired_at is None]
    return max(usable, key=lambda each: each.version, default=None)


def find_same(spec: CollectionSpec, wanted: Instruction, *, exactly: bool) -> Instruction | None:
    """The registered instruction that `wanted` asks for, if there is one.

    Args:
        spec: the collection.
        wanted: name and text, and with `exactly` the version.
        exactly: that version, and not whatever the name means.

    Raises:
        CollectionConflict: the version has another text.
    """
    if not exactly:
        there = newest(spec.instructions, wanted.name)
        return there if there and there.text == wanted.text else None
    there = next((each for each in spec.instructions if each.label == wanted.label), None)
    if there and there.text != wanted.text:
        raise CollectionConflict(
            f"instructions: {there.label} of collection {spec.name!r} is {there.text[:60]!r}, asked for "
            f"{wanted.text[:60]!r}; a version never changes: leave the version out to register a new one",
            field="instructions",
            collection=spec.name,
        )
    return there


def register(store: QdrantClient, spec: CollectionSpec, wanted: Instruction, *, exactly: bool = False) -> Instruction:
    """Register a text under a name: as a new version, unless the newest has this very text already.

    Args:
        store: where the collection is.
        spec: the collection.
        wanted: name and text, and with `exactly` the version.
        exactly: under this version and no other.

    Raises:
        CollectionConflict: the version has another text, or too many register under this name at the same time.
        InvalidInput: the collection has as many as it can have.
        StoreUnavailable, StoreRefused.
    """
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda made: made is None),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_S, max=_LONGEST_S),
        stop=tenacity.stop_after_attempt(_TRIES),
        retry_error_callback=lambda _: None,
    )
    made: Instruction | None = tries(_try, store, spec, wanted, exactly)
    if made is None:
        raise CollectionConflict(
            f"name: others register {wanted.name!r} in collection {spec.name!r} at this very moment; try again",
            field="name",
            collection=spec.name,
        )
    return made


def _try(store: QdrantClient, spec: CollectionSpec, wanted: Instruction, exactly: bool) -> Instruction | None:
    """Register, or find it registered; None where somebody else claims the same version."""
    before = _metadata(store, spec)
    spec = spec.model_copy(update={"instructions": read_instructions(before, spec.name)})
    if there := find_same(spec, wanted, exactly=exactly):
        return there
    _require_room(spec)
    version = wanted.version if exactly else _next(before, wanted.name)
    made = dated(wanted.model_copy(update={"version": version}))
    claim = f"{_key(made)}?{uuid.uuid4().hex}"
    _write(store, spec, {claim: {"since": _now()}})
    rivals = [slot for slot, _ in _slots(_metadata(store, spec)) if slot.label == made.label and slot.key != claim]
    _write(store, spec, {claim: None} if rivals else {claim: None, **stored([made])})
    return None if rivals else made


def retire(store: QdrantClient, spec: CollectionSpec, chosen: Iterable[Instruction]) -> list[Instruction]:
    """Retire registered instructions; those that are stay as they are. Their texts stay readable."""
    retired = [each.model_copy(update={"retired_at": each.retired_at or _now()}) for each in chosen]
    _write(store, spec, stored(retired))
    return retired


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a key among the metadata is for."""

    key: str
    name: str
    version: int
    claim: bool

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


def _slots(metadata: _Metadata) -> Iterator[tuple[_Slot, Any]]:
    for key, value in metadata.items():
        if told := _KEY.fullmatch(key):
            yield _Slot(key, told["name"], int(told["version"]), bool(told["claim"])), value


def _next(metadata: _Metadata, name: str) -> int:
    return 1 + max((slot.version for slot, _ in _slots(metadata) if slot.name == name), default=0)


def _require_room(spec: CollectionSpec) -> None:
    if len(spec.instructions) >= MAX_INSTRUCTIONS:
        raise InvalidInput(
            f"name: collection {spec.name!r} has {len(spec.instructions)} registered instructions, all versions counted, of "
            f"at most {MAX_INSTRUCTIONS}; pass the sentence itself to each search",
            field="name",
            collection=spec.name,
        )


def _key(instruction: Instruction) -> str:
    return f"{_PREFIX}{instruction.label}"


def _metadata(store: QdrantClient, spec: CollectionSpec) -> _Metadata:
    with store_errors(spec.name):
        return store.get_collection(spec.physical).config.metadata or {}


def _write(store: QdrantClient, spec: CollectionSpec, changes: dict[str, Any]) -> None:
    with store_errors(spec.name):
        store.update_collection(spec.physical, metadata=changes)
