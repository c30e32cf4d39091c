"""What a search is for: free text, or the name of a registered instruction."""

from __future__ import annotations

import re

from gristmill.arguments import text
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS

#: One ASCII word, with or without a version: what somebody writes who means a name. A sentence has spaces, or other letters.
_LIKE_A_NAME = re.compile(r"\s*[A-Za-z0-9][A-Za-z0-9_-]*(@[A-Za-z0-9_.-]*)?\s*")


def resolve_instruction(spec: CollectionSpec | None, instruction: str | None) -> tuple[str | None, str | None]:
    """An instruction's label (as hits report it) and its text.

    `name` means the newest registered version of that name, `name@2` exactly that one; anything else is free text.

    Args:
        spec: the collection whose names count; None knows no names.
        instruction: as the caller gave it; None means none.

    Raises:
        InvalidInput: it is a name, and not a registered one. Taken for text, the word itself would become the prompt.
    """
    if instruction is None:
        return None, None
    text("instruction", instruction, MAX_INSTRUCTION_CHARS * 4)
    name, at, version = instruction.partition("@")
    versions = {item.version: item for item in spec.instructions if item.name == name} if spec else {}
    if versions and not at:
        newest = versions[max(versions)]
        return newest.label, newest.text
    if version.isdecimal() and int(version) in versions:
        chosen = versions[int(version)]
        return chosen.label, chosen.text
    if versions or _LIKE_A_NAME.fullmatch(instruction):
        raise _unknown(spec, instruction)
    return instruction, instruction


def _unknown(spec: CollectionSpec | None, instruction: str) -> InvalidInput:
    if spec is None:
        told = "names are registered with a collection: pass collection="
    else:
        known = ", ".join(sorted(item.label for item in spec.instructions)) or "none"
        told = f"collection {spec.name!r} has {known}"
    return InvalidInput(
        "instruction: expected a registered name or a sentence that says what the search is for, "
        f"got {instruction[:200]!r}; {told}",
        field="instruction",
        collection=spec.name if spec else None,
    )
