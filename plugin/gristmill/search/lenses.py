"""Lenses, as callers give and choose them: named vectors of a collection, each of its texts under an instruction.

lenses={"legal": "Given a contract, …"}                                    a document instruction
lenses={"legal": {"document": "Given a contract, …", "query": "…"}}        and one that its queries have by default
lenses=[Lens(name="legal", document="Given a contract, …")]                the records themselves
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any, Final

from pydantic import ValidationError

from gristmill.arguments import refuse
from gristmill.search.instructions.cautions import Cautions
from gristmill.search.instructions.presets import find_preset, is_preset
from gristmill.search.instructions.resolving import Applied, is_a_name, resolve_instruction
from gristmill.search.ranking import Ranking
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec, Lens
from gristmill_schemas.errors import CollectionNotFound, InvalidInput
from gristmill_schemas.limits import MAX_LENSES
from gristmill_schemas.validation import explain, shown

#: What `create_collection` takes. Of a mapping's values texts, mappings and records: written as that, type checkers would
#: refuse one that holds two of them.
Lenses = Mapping[str, Any] | Iterable[Lens] | Lens

_EXPECTED: Final = (
    "a mapping of names to document instructions, such as {'legal': 'Given a contract, …'}, or Lens records"
)
_INSTEAD: Final = (
    "a sentence that says what documents are encoded for, or a preset such as preset:legal, and no name of a registered "
    "instruction, which goes on to other versions while documents are stored"
)


def asked_lenses(lenses: Lenses | None) -> tuple[Lens, ...] | None:
    """The lenses that were given, checked; a preset as a document instruction is replaced by its text.

    Raises:
        InvalidInput: one is wrong, has the name or the instruction of another, or there are too many.
    """
    if lenses is None:
        return None
    found = tuple(_settled(each) for each in _records(lenses))
    if len(found) > MAX_LENSES:
        raise refuse("lenses", f"at most {MAX_LENSES}, since each is one more vector of every text", len(found))
    for position, lens in enumerate(found):
        for other in found[:position]:
            _check_differing(lens, other)
    return found


def _records(lenses: Any) -> Iterable[Lens]:
    if isinstance(lenses, Lens):
        return [lenses]
    if isinstance(lenses, Mapping):
        return [_of_entry(name, value) for name, value in lenses.items()]
    if isinstance(lenses, str | bytes) or not isinstance(lenses, Iterable):
        raise refuse("lenses", _EXPECTED, lenses)
    return [_of_item(position, each) for position, each in enumerate(lenses)]


def _of_entry(name: object, value: object) -> Lens:
    if isinstance(value, Lens):
        if value.name != name:
            raise refuse(f"lenses.{name}", f"a lens of this name, or {value.name!r} as its key", value.name)
        return value
    if not isinstance(value, str | Mapping):
        raise refuse(f"lenses.{name}", "a document instruction, or a mapping with `document` and `query`", value)
    return _lens(f"lenses.{name}", {"document": value} if isinstance(value, str) else value, name)


def _of_item(position: int, item: object) -> Lens:
    if isinstance(item, Lens):
        return item
    if not isinstance(item, Mapping):
        raise refuse(f"lenses[{position}]", _EXPECTED, item)
    return _lens(f"lenses[{position}]", item, item.get("name"))


def _lens(field: str, fields: Mapping[Any, Any], name: object) -> Lens:
    try:
        return Lens.model_validate({**fields, "name": name})
    except ValidationError as error:
        raise InvalidInput(f"{field}: {explain(error)}", field=field) from error


def _settled(lens: Lens) -> Lens:
    field, word = f"lenses.{lens.name}.document", lens.document.strip()
    if is_preset(word):
        return lens.model_copy(update={"document": find_preset(word, field).text})
    if is_a_name(word):
        raise refuse(field, _INSTEAD, lens.document)
    return lens


def _check_differing(lens: Lens, other: Lens) -> None:
    if lens.name == other.name:
        raise refuse("lenses", "each name once", lens.name)
    if lens.document.strip() == other.document.strip():
        raise InvalidInput(
            f"lenses.{lens.name}.document: expected another instruction than that of {other.name!r}, since one gives the "
            f"same vectors twice, got {shown(lens.document)}",
            field=f"lenses.{lens.name}.document",
        )


def check_lenses(spec: CollectionSpec, cautions: Cautions) -> None:
    """Raise InvalidInput where a model leaves documents' instructions out; say it where it was not trained with any."""
    template = spec.space.templates.document_instructed
    for lens in spec.lenses:
        if "{instruction}" not in template:
            raise refuse(
                f"lenses.{lens.name}",
                f"no lens, since the templates of {spec.space.model} have no place for a document's instruction, and all "
                "lenses would hold the same vectors",
                lens.document,
            )
        cautions.tell(f"collection {spec.name!r}", spec.space, Applied(lens.name, lens.document), template)


def check_queries(spec: CollectionSpec, collections: Collections) -> None:
    """Raise InvalidInput where a lens's queries name an instruction that neither comes with the collection nor is there."""
    named = [lens for lens in spec.lenses if lens.query is not None and is_a_name(lens.query.strip())]
    known = _with_registered(spec, collections) if named else spec
    for lens in named:
        query_instruction(known, lens, None)


def _with_registered(spec: CollectionSpec, collections: Collections) -> CollectionSpec:
    try:
        there = collections.get(spec.name)
    except CollectionNotFound:
        return spec
    return spec.model_copy(update={"instructions": (*there.instructions, *spec.instructions)})


def asked_lens(name: object, ranking: Ranking) -> str | None:
    """The name of a lens to search by, if one was given; whether the collection has it, `find_lens` says."""
    if name is not None and not isinstance(name, str):
        raise refuse("lens", "the name of one of the collection's lenses", name)
    if name is not None and not ranking.needs_vectors:
        raise refuse("lens", f"None with mode={ranking.mode.value!r}: words are the same under every lens", name)
    return name


def find_lens(spec: CollectionSpec, name: str | None) -> Lens | None:
    """The lens of this name; None is the vector without one.

    Raises:
        InvalidInput: the collection has no such lens; the message lists those that it has, the most alike first.
    """
    found = next((lens for lens in spec.lenses if lens.name == name), None)
    if name is None or found is not None:
        return found
    if not spec.lenses:
        raise InvalidInput(
            f"lens: expected None, since collection {spec.name!r} has no lenses, got {shown(name)}; they are chosen when a "
            "collection is created: create_collection(…, lenses={…})",
            field="lens",
            collection=spec.name,
        )
    alike = sorted((lens.name for lens in spec.lenses), key=lambda each: -SequenceMatcher(None, each, name).ratio())
    raise InvalidInput(
        f"lens: expected {' or '.join(map(repr, alike))}, which collection {spec.name!r} has, or None for its vectors "
        f"without a lens, got {shown(name)}",
        field="lens",
        collection=spec.name,
    )


def query_instruction(spec: CollectionSpec, lens: Lens | None, given: str | None) -> Applied:
    """What a query is encoded for: as the caller says, or else as its lens does.

    Raises:
        InvalidInput: it is a word that names nothing.
    """
    if given is None and lens is not None:
        return resolve_instruction(spec, lens.query, f"lenses.{lens.name}.query")
    return resolve_instruction(spec, given)
