"""From the texts of a request to model input: as they are given, or through the model's template; and cut where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gristmill.search.instructions import resolve_instruction
from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder.base import Encoder, KeepsEnds, ReadsTokens, TokenizedText
from gristmill_worker.server.inputs import InputType, TokenIds, Truncate

#: What Cohere calls the two that are no side of a search, and the instruction of ours that means the same.
_TASKS: Final = {"classification": "preset:classification", "clustering": "preset:clustering"}
_DOCUMENTS: Final = ("document", "search_document")


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts, and what is to be made of them."""

    #: What the request calls them.
    field: str
    texts: Sequence[str] | Sequence[TokenIds]
    input_type: InputType | None = None
    instruction: str | None = None
    truncate: Truncate = "NONE"
    #: None: the model's own.
    dimensions: int | None = None
    dimensions_field: str = "dimensions"
    #: The field holds one text, and no list of them.
    bare: bool = False

    def place(self, index: int) -> str:
        """What the request calls one of them."""
        return self.field if self.bare else f"{self.field}[{index}]"


def tokenized(encoder: Encoder, asked: Asked) -> list[TokenizedText]:
    """What the model reads, one for each text.

    Raises:
        InvalidInput: a text is longer than the model's window and was not to be cut; or what was asked for is
            not to be had of this model.
    """
    first = asked.texts[0]
    if isinstance(first, list):
        return _of_ids(encoder, asked)
    fill = _template(encoder.info, asked)
    found = encoder.tokenize([fill(text) for text in _strings(asked)])
    for index, each in enumerate(found):
        if not each.truncated:
            continue
        if asked.truncate == "NONE":
            raise too_long(encoder.info, asked.place(index), "more")
        if asked.truncate == "START":
            found[index] = _ending(encoder, asked, index, fill)
    return found


def token_ids(encoder: Encoder, asked: Asked, *, special: bool) -> list[list[int]]:
    """The ids of texts, all of them however long, with the model's special ones or without.

    Raises:
        InvalidInput: of this model no ids are known here.
    """
    if not isinstance(encoder, ReadsTokens):
        raise InvalidInput(
            f"model: expected one whose tokenizer is here, got {encoder.info.model}; `usage` of /v1/embeddings counts",
            field="model",
        )
    fill = _template(encoder.info, asked)
    return encoder.ids_of([fill(text) for text in _strings(asked)], special=special)


def _strings(asked: Asked) -> list[str]:
    return [each for each in asked.texts if isinstance(each, str)]


def too_long(info: EncoderInfo, field: str, got: object) -> InvalidInput:
    """The error for a text that the model's window cuts. In words that clients of other servers look for."""
    return InvalidInput(
        f"{field}: expected at most {info.max_tokens} tokens, special ones and template included, got {got}: this model's "
        f"maximum context length is {info.max_tokens} tokens; shorten the text, or ask for it to be cut "
        '(`"truncate": "END"`)',
        field=field,
        model=info.model,
    )


def _template(info: EncoderInfo, asked: Asked) -> Callable[[str], str]:
    kind, instruction = asked.input_type, asked.instruction
    if kind is None and instruction is None:
        return lambda text: text
    if instruction is None and kind in _TASKS and info.instruction_aware:
        instruction = _TASKS[kind]
    applied = resolve_instruction(None, instruction).text
    fill = info.templates.for_document if kind in _DOCUMENTS else info.templates.for_query
    return lambda text: fill(text, applied)


def _of_ids(encoder: Encoder, asked: Asked) -> list[TokenizedText]:
    info = encoder.info
    for field, given in (("instruction", asked.instruction), ("input_type", asked.input_type)):
        if given is not None:
            raise InvalidInput(
                f"{field}: expected none beside token ids, which go to the model as they are, got {given!r}; send text",
                field=field,
            )
    if not isinstance(encoder, ReadsTokens):
        raise InvalidInput(
            f"{asked.field}: expected text, since {info.model} takes no token ids here", field=asked.field
        )
    return [_one_of_ids(encoder, info, asked, index, ids) for index, ids in enumerate(_lists(asked))]


def _one_of_ids(encoder: ReadsTokens, info: EncoderInfo, asked: Asked, index: int, ids: TokenIds) -> TokenizedText:
    wrong = next((place for place, each in enumerate(ids) if each >= encoder.vocabulary), None)
    if wrong is not None:
        field = f"{asked.place(index)}[{wrong}]"
        raise InvalidInput(
            f"{field}: expected a token id from 0 to {encoder.vocabulary - 1}, which is what {info.model} has, got "
            f"{ids[wrong]}; is it another model's tokenizer? /tokenize gives this one's",
            field=field,
        )
    if len(ids) > info.max_tokens and asked.truncate == "NONE":
        raise too_long(info, asked.place(index), len(ids))
    return encoder.of_ids(ids, keep_end=asked.truncate == "START")


def _lists(asked: Asked) -> list[TokenIds]:
    return [each for each in asked.texts if isinstance(each, list)]


def _ending(encoder: Encoder, asked: Asked, index: int, fill: Callable[[str], str]) -> TokenizedText:
    """So much of a text's end as fits beside the template."""
    if not isinstance(encoder, KeepsEnds):
        raise InvalidInput(
            f"truncate: expected END or NONE, since {encoder.info.model} cuts ends only, got START", field="truncate"
        )
    text = _strings(asked)[index]
    room = encoder.info.max_tokens - encoder.tokenize([fill("")])[0].n_tokens
    while room > 0:
        found = encoder.tokenize([fill(encoder.ending(text, room))])[0]
        if not found.truncated:
            return replace(found, truncated=True)
        room -= 1  # a word that is cut may have more tokens than the part of it had in the whole
    raise too_long(encoder.info, asked.place(index), "a template that leaves no room")
