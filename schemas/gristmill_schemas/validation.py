"""What comes in at the door: its base, and what a clean string, id, version and metadata are.

Lone surrogates cannot be written as UTF-8 and NUL bytes break half of the tools downstream, so both are refused at the
door, where the message can still name the document, and not in a worker an hour later.
"""

from __future__ import annotations

import decimal
import difflib
import json
import operator
import re
import reprlib
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import (
    MAX_ID_CHARS,
    MAX_KEY_CHARS,
    MAX_METADATA_BYTES,
    MAX_TEXT_BYTES,
)
from gristmill_schemas.plain import clean_text as clean_text
from gristmill_schemas.plain import is_clean, plain
from gristmill_schemas.redaction import redact

#: The one payload key that belongs to Gristmill; all other keys are the user's.
SYSTEM_KEY = "_gristmill"


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # it has no public name


class RaisesInvalidInput(ModelMetaclass):
    """Calling such a class with wrong values raises our InvalidInput instead of pydantic's ValidationError.

    A metaclass, since it costs nothing where pydantic builds records itself (from JSON, inside other records), while an
    `__init__` of our own would be called there too. `model_validate` stays pydantic's, errors included.
    """

    if not TYPE_CHECKING:  # type checkers shall see the constructor that pydantic makes

        def __call__(cls, *args: Any, **values: Any) -> Any:  # noqa: N805  # what calls is a class
            """Make a record."""
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise cls.refusal(error) from error


class Record(BaseModel, metaclass=RaisesInvalidInput):
    """Base of what comes in at the door: immutable, unknown fields refused, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False)

    @classmethod
    def refusal(cls, error: ValidationError) -> InvalidInput:
        """The error for values that this record cannot be made of."""
        return InvalidInput(f"{cls.__name__}: {explain(error)}", field=field_of(error))

    def __str__(self) -> str:
        return repr(self)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        fields = type(self).model_fields
        # A text may have a mebibyte; a traceback or a log line must not.
        for name, value in super().__repr_args__():
            if name in fields and value == fields[name].default:
                continue  # says nothing, and a report has many zeros
            yield name, _Shown(_SHORT.repr(value))


class _Shown(str):
    """Text that is its own repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother = 80, 400


def clean_identifier(value: Any) -> str:
    """Return `value` as an id: a clean string that is not blank and not too long; integers and UUIDs become strings."""
    text = clean_text(value if type(value) is str else _id_text(value))
    if not text or text.isspace():
        raise ValueError("expected a non-empty id, got an empty one")
    if len(text) > MAX_ID_CHARS:
        raise ValueError(f"expected at most {MAX_ID_CHARS} characters, got {len(text)}")
    return text


def _id_text(value: Any) -> Any:
    """The text of what databases and frames number their rows with; anything else as it came."""
    if isinstance(value, str | bool | float):
        return value
    if isinstance(value, uuid.UUID):
        return str(value)
    if (
        isinstance(value, decimal.Decimal)
        and value.is_finite()
        and value.adjusted() < MAX_ID_CHARS
        and value == int(value)
    ):
        return str(int(value))
    try:
        return str(operator.index(value))
    except TypeError:
        return value


def clean_key(value: str) -> str:
    """Return a key without the blanks around it; ValueError says what else is in it that no header can carry.

    The message says what came in kind and where, never the key itself.
    """
    key = value.strip()
    if not key:
        raise ValueError("expected a key, got only blanks")
    if len(key) > MAX_KEY_CHARS:
        raise ValueError(f"expected a key of at most {MAX_KEY_CHARS} characters, got {len(key)}")
    if key[0] == key[-1] and key[0] in "\"'`":
        raise ValueError("expected a key, got one in quotation marks: leave them out")
    for at, character in enumerate(key, start=len(value) - len(value.lstrip())):
        if not "!" <= character <= "~":
            raise ValueError(f"expected visible ASCII characters only, got {_kind(character)} at position {at}")
    return key


def _kind(character: str) -> str:
    """What a character is, in words that show nothing else of a key."""
    if character in "\r\n":
        return "a line end"
    if character.isspace():
        return "a blank (is something in front of the key, such as `Bearer`?)"
    return "a control character" if not character.isprintable() else "one that is not ASCII"


def _document_text(value: Any) -> str:
    text = clean_text(value)
    if not text or text.isspace():
        raise ValueError("expected text to embed, got an empty or blank string")
    if len(text) * _MOST_BYTES > MAX_TEXT_BYTES and (size := len(text.encode())) > MAX_TEXT_BYTES:
        raise ValueError(
            f"expected at most {MAX_TEXT_BYTES} bytes, got {size}; split the document before enqueueing it"
        )
    return text


def _metadata(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    if _is_simple(value):
        return value  # type: ignore[return-value]  # it is a dict
    metadata: dict[str, Any] = plain(value, "metadata")
    if SYSTEM_KEY in metadata:
        raise ValueError(f"the key {SYSTEM_KEY!r} is reserved for Gristmill; rename yours")
    if (size := len(json.dumps(metadata, ensure_ascii=False).encode())) > MAX_METADATA_BYTES:
        raise ValueError(f"expected at most {MAX_METADATA_BYTES} bytes of JSON, got {size}")
    return metadata


def _is_simple(value: Mapping[str, Any]) -> bool:
    """Whether metadata are what most are: short texts, integers, booleans and lists of them, which `plain` leaves alone.

    Every document passes here twice, at the producer's door and out of its parcel at the worker's.
    """
    if type(value) is not dict or SYSTEM_KEY in value:
        return False
    chars, items = 0, 0
    for key, held in value.items():
        if type(key) is not str or not is_clean(key):
            return False
        chars += len(key)
        for item in held if type(held) is list else (held,):
            if (size := _chars_of(item)) is None:
                return False
            chars += size
            items += 1
    # An integer has up to 20 digits, punctuation is 6 characters, and JSON may escape a character by six.
    return 6 * chars + 26 * (items + len(value)) < MAX_METADATA_BYTES


def _chars_of(item: Any) -> int | None:
    """Characters of text in a scalar that is plain already; None where it may not be."""
    kind = type(item)
    if kind is str:
        return len(item) if is_clean(item) else None
    if kind is int:
        return 0 if -(2**63) <= item < 2**63 else None
    return 0 if kind is bool or item is None else None


#: UTF-8 bytes of one character.
_MOST_BYTES = 4


def field_of(error: ValidationError) -> str | None:
    """Path of the first wrong field, such as `documents.0.text`; None where the record as a whole is wrong."""
    return ".".join(str(part) for part in error.errors(include_url=False, include_context=False)[0]["loc"]) or None


def explain(error: ValidationError) -> str:
    """One line from a pydantic error: `field: what was expected, what came`, for messages and rejection records."""
    lines = []
    for item in error.errors(include_url=False):
        if item["type"] == "default_factory_not_called":
            continue  # it would have been taken from a field that has a line of its own
        field = ".".join(str(part) for part in item["loc"]) or "input"
        lines.append(f"{field}: {_problem(item, error.title)}")
    return "; ".join(lines)


#: A document's fields in LangChain, LlamaIndex, chromadb, Elasticsearch and qdrant-client, and what they are here.
_DOCUMENTS_ELSEWHERE = {
    **dict.fromkeys(("page_content", "content", "body", "document", "passage", "value", "txt", "title_text"), "text"),
    **dict.fromkeys(("payload", "meta", "metadatas", "attributes", "properties", "extra", "extra_info"), "metadata"),
    **dict.fromkeys(("_id", "id_", "doc_id", "document_id", "point_id", "key", "uuid", "pk"), "id"),
    **dict.fromkeys(("namespace", "tenant_id", "user", "user_id", "partition"), "tenant"),
    **dict.fromkeys(("updated_at", "timestamp", "revision", "modified"), "version"),
}


def _problem(item: ErrorDetails, record: str) -> str:
    if item["type"] == "missing":
        there = item["input"]
        names = f"; there are {', '.join(map(repr, list(there)[:8]))}" if isinstance(there, dict) and there else ""
        return f"expected a value, got none{names}"
    if item["type"] == "extra_forbidden":
        return f"expected no field of this name, got {shown(item['input'])}{_instead(item['loc'], record)}"
    text = expectation(item)
    return text if item["type"] == "value_error" else f"{text}, got {shown(item['input'])}"


def _instead(place: tuple[int | str, ...], record: str) -> str:
    """What a field that a record does not have may stand for."""
    name = str(place[-1])
    meant = _DOCUMENTS_ELSEWHERE.get(name.lower()) if record == "Document" else None
    if meant is None and record == "Document":
        return "; what is yours belongs into `metadata`"
    known = _fields_of(record) if len(place) == 1 else []  # within a field, another record's
    meant = meant or next(iter(difflib.get_close_matches(name, known, n=1)), None)
    if meant:
        return f"; did you mean `{meant}`?"
    return f"; expected one of {', '.join(known)}" if known else ""


def _fields_of(record: str) -> list[str]:
    kinds: list[type[BaseModel]] = [Record]
    for kind in kinds:
        if kind.__name__ == record:
            return list(kind.model_fields)
        kinds += kind.__subclasses__()
    return []


#: How pydantic says that there are too few or too many of something, and what they are.
_COUNTED = {
    "too_short": ("at least", "min_length", "item"),
    "too_long": ("at most", "max_length", "item"),
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
}


def expectation(item: ErrorDetails) -> str:
    """What pydantic says of a value, in our words: `expected …`."""
    text = item["msg"].removeprefix("Value error, ").partition(", unable to ")[0]
    if item["type"] == "string_pattern_mismatch":
        return f"expected text that matches {item['ctx']['pattern']}"
    if item["type"] == "model_attributes_type":
        return "expected a JSON object"
    if counted := _COUNTED.get(item["type"]):
        bound, name, noun = counted
        number = item["ctx"][name]
        return f"expected {bound} {number} {noun}{'s' * (number != 1)}"
    return re.sub(
        r"^(Input|String|Value|List|Tuple|Set|Dictionary|Number) should (be )?(a valid )?(?=(.))", _expected, text
    )


def _expected(found: re.Match[str]) -> str:
    if found[3]:
        return "expected an " if found[4] in "aeiou" else "expected a "
    return "expected " if found[2] else "expected to "


#: Enough of a text to see whether there is a secret in what is shown of it.
_LOOKED_AT = 4_000


def shown(value: object, most_chars: int = 80) -> str:
    """What came, short and on one line, for messages; whatever it is."""
    try:
        clean = redact(value[:_LOOKED_AT]) if isinstance(value, str) else value
        text = " ".join(redact(_SHORT.repr(clean)).split())
    except Exception:  # noqa: BLE001  # an integer too long to print, or a stranger's `__repr__`
        text = f"a {type(value).__name__} that cannot be shown"
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return text if len(text) <= most_chars else f"{text[: most_chars - 1]}…"


# The bounds stand first: pydantic checks those of a plain string itself, and others by a call of Python's for each.
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS), BeforeValidator(clean_identifier)]
#: A model's digest becomes part of keys and queue names, so it holds nothing that could make two of them one.
ModelDigest = Annotated[Identifier, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
DocumentText = Annotated[str, Field(min_length=1), BeforeValidator(_document_text)]
#: Why something was refused or died: it may quote what a server or a library said.
Reason = Annotated[str, AfterValidator(redact)]
CleanText = Annotated[str, BeforeValidator(clean_text)]
Metadata = Annotated[dict[str, Any], BeforeValidator(_metadata)]
#: Versions order the writes of one document. 53 bits, since Qdrant's range filters compare doubles: microseconds since
#: 1970 fit until the year 2255, nanoseconds do not and are refused rather than rounded.
Version = Annotated[int, Field(ge=0, lt=2**53, strict=True)]
