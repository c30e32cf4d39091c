"""A collection that is there already, against the settings that somebody asks for now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from gristmill.arguments import flag, one_or_many, refuse
from gristmill.store.collections import Collections
from gristmill.store.instructions import find_same
from gristmill_schemas import ChunkContext, Chunking, CollectionSpec, Distance, Instruction, Lens
from gristmill_schemas.errors import CollectionConflict, InvalidInput
from gristmill_schemas.validation import explain

#: What may change while documents are there. The rest decides what is stored, or what vectors mean.
CHANGEABLE = ("chunking", "instructions")
#: Why the rest cannot, where more is to be said.
_LATER = {
    "lenses": "lenses are chosen when a collection is created; another one, or another document instruction, needs every "
    "document encoded again, which comes with the migration of models"
}


def asked_for(
    distance: Distance | str | None,
    text_key: str | None,
    chunking: Chunking | Mapping[str, Any] | None,
    instructions: Iterable[Instruction | Mapping[str, Any]] | Instruction | None,
    keyword: bool | None,
    tenants: bool | None,
    lenses: tuple[Lens, ...] | None,
) -> dict[str, Any]:
    """The settings that were given, checked; what was not given is not asked for."""
    given: dict[str, Any] = {"text_key": text_key, "chunking": _policy(chunking), "lenses": lenses}
    if distance is not None:
        if distance not in list(Distance):
            raise refuse("distance", f"one of {', '.join(Distance)}", distance)
        given["distance"] = Distance(distance)
    if instructions is not None:
        given["instructions"] = _registered(instructions)
    if keyword is not None:
        given["keyword"] = flag("keyword", keyword)
    if tenants is not None:
        given["tenants"] = flag("tenants", tenants)
    return {name: value for name, value in given.items() if value is not None}


def _policy(chunking: object) -> Chunking | None:
    try:
        return None if chunking is None else Chunking.model_validate(chunking)
    except ValidationError as error:
        raise InvalidInput(f"chunking: {explain(error)}", field="chunking") from error


def _completed(policy: Chunking, there: Chunking) -> Chunking:
    """What was given of a policy, and the rest as it is there."""
    given = policy.model_dump(include=policy.model_fields_set)
    completed = _policy({**there.model_dump(), **given})
    return policy if completed is None else completed


def _registered(instructions: Any) -> tuple[Instruction, ...]:
    expected = "an Instruction(name=…, text=…) or an iterable of them"
    found: list[Instruction] = []
    for position, item in enumerate(one_or_many("instructions", instructions, (Instruction, Mapping), expected)):
        try:
            found.append(item if isinstance(item, Instruction) else Instruction.model_validate(item))
        except ValidationError as error:
            field = f"instructions[{position}]"
            raise InvalidInput(f"{field}: {explain(error)}", field=field) from error
    labels = [item.label for item in found]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise InvalidInput(
            f"instructions: expected each name and version once, got {twice[0]} twice", field="instructions"
        )
    return tuple(found)


def settle(
    collections: Collections, name: str, there: CollectionSpec, asked: Mapping[str, Any], *, update: bool
) -> CollectionSpec:
    """The description that holds from now on.

    Raises:
        CollectionConflict: it differs from what is asked for, and must not or cannot be changed.
    """
    if isinstance(policy := asked.get("chunking"), Chunking):
        asked = {**asked, "chunking": _completed(policy, there.chunking)}
    missing = _missing(there, asked.get("instructions", ()))
    if "lenses" in asked:
        asked = {**asked, "lenses": _with_queries(there.lenses, asked["lenses"])}
    differing = {field: value for field, value in asked.items() if value != getattr(there, field)}
    differing = {**differing, "instructions": missing} if missing else _without(differing, "instructions")
    fixed = [field for field, value in differing.items() if _is_fixed(field, getattr(there, field), value)]
    if not differing:
        return there
    if fixed or not update:
        raise _conflict(name, there, differing, fixed)
    if described := _without(differing, "instructions"):
        collections.update(there.model_copy(update=described))
    for each in missing:
        collections.register(there, each, exactly=_names_its_version(each))
    return collections.get(name)


def _is_fixed(field: str, there: Any, asked: Any) -> bool:
    """Whether this change decides what is stored, or what vectors mean."""
    return _views(there) != _views(asked) if field == "lenses" else field not in CHANGEABLE


def _views(lenses: Iterable[Lens]) -> set[tuple[str, str]]:
    return {(lens.name, lens.document) for lens in lenses}


def _with_queries(there: tuple[Lens, ...], asked: tuple[Lens, ...]) -> tuple[Lens, ...]:
    """The lenses that are asked for, ordered as those there, and with their queries' instructions where none is given."""
    if _views(there) != _views(asked):
        return asked
    given = {lens.name: lens.query for lens in asked if "query" in lens.model_fields_set}
    return tuple(lens.model_copy(update={"query": given.get(lens.name, lens.query)}) for lens in there)


def _missing(there: CollectionSpec, asked: Iterable[Instruction]) -> tuple[Instruction, ...]:
    """Those that are not registered. Whatever else is registered says nothing against them."""
    return tuple(each for each in asked if find_same(there, each, exactly=_names_its_version(each)) is None)


def _names_its_version(instruction: Instruction) -> bool:
    return "version" in instruction.model_fields_set


def _without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def _conflict(name: str, there: CollectionSpec, differing: Mapping[str, Any], fixed: list[str]) -> CollectionConflict:
    told = "; ".join(
        f"{field} is {_shown(getattr(there, field))}, asked for {_shown(value)}" for field, value in differing.items()
    )
    way_out = (
        f"{' and '.join(fixed)} cannot be changed: ask for what is there, or create another collection"
        + "".join(f"; {_LATER[field]}" for field in fixed if field in _LATER)
        if fixed
        else "leave them out to take the collection as it is, or pass update=True (--update) to change it"
    )
    return CollectionConflict(
        f"collection {name!r} exists with other settings: {told}; {way_out}",
        field=", ".join(differing),
        collection=name,
    )


def _called(instruction: Instruction) -> str:
    return instruction.label if _names_its_version(instruction) else instruction.name


def _policy_shown(policy: Chunking) -> str:
    told = f"{policy.long_texts} of {policy.size} tokens with {policy.overlap} of overlap, by {policy.by}"
    if policy.context is ChunkContext.NONE:
        return told
    key = f" from {policy.title_key}" if policy.context is ChunkContext.TITLE else ""
    return f"{told}, under their {policy.context}{key}"


def _told(item: Instruction | Lens) -> str:
    if isinstance(item, Instruction):
        return f"{_called(item)}: {item.text[:60]!r}"
    return f"{item.name}: {item.document[:60]!r}" + (f" (queries: {item.query[:60]!r})" if item.query else "")


def _shown(value: Any) -> str:
    if isinstance(value, Chunking):
        return _policy_shown(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_told, value)) + "]"
    return repr(str(value))
