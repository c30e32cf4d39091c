"""What somebody means by an instruction: a registered one, a preset, or free text.

One ASCII word is a name (`faq`, `faq@2`), one that begins with `preset:` a preset, all else the text itself. A word that
names nothing is an error: taken for text, it would become the prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gristmill.arguments import refuse, text
from gristmill.search.instructions.presets import find_preset, is_preset
from gristmill.store.instructions import newest
from gristmill_schemas import CollectionSpec, Instruction
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS
from gristmill_schemas.validation import shown

#: One ASCII word, with or without a version: what somebody writes who means a name. A sentence has spaces, or other letters.
_LIKE_A_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(@[A-Za-z0-9_.-]*)?")
_BYTES_PER_CHARACTER = 4
_A_NAME = "a registered name, or name@version"
_TEXT = "a preset such as preset:web, or a sentence that says what the search is for"
_EXPECTED = f"{_A_NAME}, {_TEXT}"


@dataclass(frozen=True, slots=True)
class Applied:
    """What goes before a query."""

    #: As hits report it: `name@version`, or the text; None where there is no instruction.
    label: str | None = None
    text: str | None = None
    #: It is a version that has been retired.
    retired: bool = False


def is_a_name(word: str) -> bool:
    """Whether somebody means a registered instruction: one ASCII word, with or without a version."""
    return _LIKE_A_NAME.fullmatch(word) is not None


def resolve_instruction(spec: CollectionSpec | None, instruction: str | None, field: str = "instruction") -> Applied:
    """What an instruction stands for.

    `name` means the newest version of that name that is not retired, `name@2` exactly that one, `preset:name` one that
    ships; anything else is free text.

    Args:
        spec: the collection whose names count; None knows no names.
        instruction: as the caller gave it; None means none.
        field: what the errors are about.

    Raises:
        InvalidInput: it is too long, or a word that names nothing.
    """
    if instruction is None:
        return Applied()
    given = text(field, instruction, MAX_INSTRUCTION_CHARS * _BYTES_PER_CHARACTER)
    if len(given) > MAX_INSTRUCTION_CHARS:
        raise refuse(field, f"at most {MAX_INSTRUCTION_CHARS} characters", len(given))
    word = given.strip()
    if is_preset(word):
        preset = find_preset(word, field)
        return Applied(preset.label, preset.text)
    if not is_a_name(word):
        return Applied(given, given)
    found = find_registered(spec, word, field, _EXPECTED if spec else _TEXT)
    return Applied(found.label, found.text, found.retired_at is not None)


def find_registered(
    spec: CollectionSpec | None, word: str, field: str = "name", expected: str = _A_NAME
) -> Instruction:
    """The registered instruction that `name` or `name@version` means; the error is about `field`.

    Raises:
        InvalidInput: there is none, or all versions of the name are retired; the message lists what there is.
    """
    registered = spec.instructions if spec else ()
    found = next((each for each in registered if each.label == word), None) or newest(registered, word)
    if found is None:
        raise InvalidInput(
            f"{field}: expected {expected}, got {shown(word, 200)}; {_there(spec, word)}",
            field=field,
            collection=spec.name if spec else None,
        )
    return found


def _there(spec: CollectionSpec | None, word: str) -> str:
    if spec is None:
        return (
            "a single word is taken for a name, and names are registered with a collection, of which there is none here"
        )
    labels = [_told(each) for each in spec.instructions]
    told = f"collection {spec.name!r} has {', '.join(labels) or 'none'}"
    if any(each.name == word for each in spec.instructions):
        told += f"; all versions of {word} are retired: name one, or register another"
    return told


def _told(instruction: Instruction) -> str:
    return f"{instruction.label} (retired)" if instruction.retired_at else instruction.label
