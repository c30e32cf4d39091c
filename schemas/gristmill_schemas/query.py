"""Query encoding on the wire: what a client puts into the worker's query queue, and the answer with its codec.

An answer is not JSON but a header and raw numbers, since vectors are what it consists of:

    byte 0     format of this layout
    byte 1     status: 0 vectors follow, 1 the text could not be encoded, 2 the request could not be read
    bytes 2-9  texts and dimensions, two unsigned integers of 32 bits; both 0 unless vectors follow
    then       float32 (texts, dimensions), or the error's message in UTF-8

All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from pydantic import Field

from gristmill_schemas.errors import EncodingFailed, GristmillError, InvalidInput, NewerFormat
from gristmill_schemas.limits import MAX_QUERY_TEXTS
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import CleanText, Identifier

ANSWER_FORMAT = 1
_HEADER = struct.Struct("<BBII")
_FLOAT_BYTES = 4


class QueryRequest(Stored):
    """Texts to encode, templates already applied."""

    KIND: ClassVar[str] = "query"

    #: Redis list that the answer is pushed to.
    reply_to: Identifier
    #: Model whose vectors the caller expects; a worker with another one refuses.
    model_digest: Identifier
    dimensions: int = Field(gt=0)
    normalize: bool = True
    texts: tuple[CleanText, ...] = Field(min_length=1, max_length=MAX_QUERY_TEXTS)
    #: Seconds since 1970 after which nobody waits for the answer any more.
    deadline: float


class Status(IntEnum):
    """Second byte of an answer."""

    VECTORS = 0
    FAILED = 1  #: a text could not be encoded
    REFUSED = 2  #: the request could not be read, or is for another model


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """Vectors of one request."""

    #: float32 (texts, dimensions), little-endian.
    floats: bytes
    texts: int
    dimensions: int


def pack_answer(floats: bytes, texts: int, dimensions: int) -> bytes:
    """Answer with vectors: the bytes of float32 (texts, dimensions), little-endian."""
    return _HEADER.pack(ANSWER_FORMAT, Status.VECTORS, texts, dimensions) + floats


def pack_failure(message: str, status: Status = Status.FAILED) -> bytes:
    """Answer with an error's message."""
    return _HEADER.pack(ANSWER_FORMAT, status, 0, 0) + message.encode()


def unpack_answer(body: bytes) -> QueryAnswer:
    """The vectors of an answer.

    Raises:
        EncodingFailed, GristmillError: the worker's own error, in its words.
        NewerFormat: a newer worker wrote it.
        InvalidInput: these bytes are no answer.
    """
    if body and body[0] > ANSWER_FORMAT:
        raise NewerFormat("answer to a query", body[0], ANSWER_FORMAT)
    if len(body) < _HEADER.size:
        raise InvalidInput(f"answer to a query: expected a header of {_HEADER.size} bytes, got {body[:16]!r}")
    _, status, texts, dimensions = _HEADER.unpack_from(body)
    rest = body[_HEADER.size :]
    if status != Status.VECTORS:
        failed = EncodingFailed if status == Status.FAILED else GristmillError
        raise failed(rest.decode(errors="replace"))
    if len(rest) != (expected := texts * dimensions * _FLOAT_BYTES):
        raise InvalidInput(f"answer to a query: expected {expected} bytes of {texts} vectors, got {len(rest)}")
    return QueryAnswer(rest, texts, dimensions)
