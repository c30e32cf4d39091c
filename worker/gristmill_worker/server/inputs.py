"""The texts of a request, checked one by one: strings or token ids, each refused by its place in the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gristmill.arguments import refuse
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS, MAX_TEXT_BYTES
from gristmill_schemas.validation import clean_text

#: One text as token ids, special ones included.
TokenIds = list[int]
#: What a text is: models are trained to treat the sides of a search differently. Cohere's names, and ours in short.
InputType = Literal["query", "document", "search_query", "search_document", "classification", "clustering"]
#: Which end of a text that is too long is cut off.
Truncate = Literal["NONE", "START", "END"]

#: UTF-8 bytes of one character.
_MOST_BYTES: Final = 4
_EXPECTED: Final = "a string, a list of strings, a list of token ids or a list of such lists"
#: No tokenizer has more.
_MOST_IDS: Final = 2**31


def one_text(field: str, value: object) -> str:
    """A text to encode.

    Raises:
        InvalidInput: it is none, empty, too long, or holds what is no text.
    """
    if type(value) is not str:
        raise refuse(field, "text", value)
    if not value:
        raise refuse(field, "text, at least one character", value)
    try:
        text = clean_text(value)
    except ValueError as error:
        raise InvalidInput(f"{field}: {error}", field=field) from None
    if len(text) * _MOST_BYTES > MAX_TEXT_BYTES and (size := len(text.encode())) > MAX_TEXT_BYTES:
        raise InvalidInput(f"{field}: expected at most {MAX_TEXT_BYTES} bytes, got {size}: cut it", field=field)
    return text


def texts_of(field: str, value: object) -> list[str]:
    """A list of texts; raises InvalidInput for the first that is none, and where there is none."""
    if type(value) is not list:
        raise refuse(field, "a list of strings", value)
    if not value:
        raise refuse(field, "at least one text", value)
    return [one_text(f"{field}[{place}]", each) for place, each in enumerate(value)]


def documents_of(value: object) -> list[str]:
    """What `/v1/rerank` calls `documents`: strings, or objects with a `text` and nothing else. Raises as `texts_of` does."""
    if type(value) is not list:
        raise refuse("documents", 'a list of strings or of {"text": …}', value)
    return texts_of("documents", [_bare(place, each) for place, each in enumerate(value)])


def _bare(place: int, value: object) -> object:
    if type(value) is not dict:
        return value
    if set(value) != {"text"}:
        raise refuse(f"documents[{place}]", "a string or an object with `text` alone", sorted(value))
    return value["text"]


@dataclass(frozen=True, slots=True)
class Given:
    """What OpenAI calls `input`."""

    texts: list[str] | list[TokenIds]
    #: It was one text, and no list of them.
    bare: bool = False


def openai_input(value: object) -> Given:
    """What OpenAI calls `input`.

    Raises:
        InvalidInput: naming the place of the first that is wrong.
    """
    if isinstance(value, str):
        return Given([one_text("input", value)], bare=True)
    if type(value) is not list:
        raise refuse("input", _EXPECTED, value)
    if not value:
        raise refuse("input", "at least one text", value)
    if isinstance(value[0], str):
        return Given(texts_of("input", value))
    if isinstance(value[0], list):
        return Given([_token_ids(f"input[{place}]", each) for place, each in enumerate(value)])
    if type(value[0]) is int:
        return Given([_token_ids("input", value)], bare=True)
    raise refuse("input[0]", f"text, a token id or a list of token ids, since `input` is {_EXPECTED}", value[0])


def _token_ids(field: str, value: object) -> TokenIds:
    if type(value) is not list:
        raise refuse(field, "a list of token ids, as the others", value)
    if not value:
        raise refuse(field, "at least one token id", value)
    for place, each in enumerate(value):
        if type(each) is not int or not 0 <= each < _MOST_IDS:
            raise refuse(f"{field}[{place}]", "a token id, an integer from 0", each)
    return value


def check_count(field: str, texts: Sequence[object], most: int) -> None:
    """Raise InvalidInput where a request holds more texts than it may."""
    if len(texts) > most:
        raise InvalidInput(
            f"{field}: expected at most {most} inputs, got {len(texts)}: too many inputs; send them in several requests "
            "(GRISTMILL_SERVE_MAX_INPUTS)",
            field=field,
        )


def _instruction(value: str) -> str:
    return one_text("instruction", value)


def _query(value: object) -> str:
    return one_text("query", value)


def _text_or_texts(value: object) -> str | list[str] | None:
    if value is None:
        return None
    return texts_of("input", value) if isinstance(value, list) else one_text("input", value)


def _texts(value: object) -> list[str]:
    return texts_of("texts", value)


_TEXT: Final = {"type": "string", "minLength": 1}
_IDS: Final = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_TEXTS: Final = {"type": "array", "minItems": 1, "items": _TEXT}
_INPUT_SCHEMA: Final[dict[str, Any]] = {
    "description": "One text or several, as strings or as token ids (special ones included, as /tokenize gives them)",
    "anyOf": [_TEXT, _TEXTS, _IDS, {"type": "array", "minItems": 1, "items": _IDS}],
}

#: A document of `documents`, or such an object.
_DOCUMENT: Final = {"anyOf": [_TEXT, {"type": "object", "properties": {"text": _TEXT}, "required": ["text"]}]}

OpenAIInput = Annotated[Any, BeforeValidator(openai_input), WithJsonSchema(_INPUT_SCHEMA)]
Texts = Annotated[list[str], BeforeValidator(_texts), WithJsonSchema(_TEXTS)]
TextOrTexts = Annotated[str | list[str], BeforeValidator(_text_or_texts), WithJsonSchema({"anyOf": [_TEXT, _TEXTS]})]
Query = Annotated[str, BeforeValidator(_query), WithJsonSchema(_TEXT)]
Documents = Annotated[
    list[str], BeforeValidator(documents_of), WithJsonSchema({"type": "array", "minItems": 1, "items": _DOCUMENT})
]
Instruction = Annotated[
    str,
    AfterValidator(_instruction),
    Field(
        max_length=MAX_INSTRUCTION_CHARS,
        description="What the texts are embedded for: a sentence, or a preset's name (`preset:faq`)",
    ),
]
