"""Words that Qdrant's server takes from a text itself, by its multilingual tokenizer, which cuts Chinese into words.

Qdrant's own default would take every text for English.
"""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import normalize

from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import payload_to_grpc

#: The sparse vector's name; the unnamed vector stands beside it.
KEYWORDS = "bm25"
_MODEL = "qdrant/bm25"
_OPTIONS = {"tokenizer": "multilingual", "language": "none"}
_GRPC_OPTIONS = payload_to_grpc(_OPTIONS)
#: A number that stands alone. The multilingual tokenizer takes it for no word (1.16.3), and neither orders nor parts would
#: be found by theirs; with a letter before it, it is one. Looks back from the first digit: from every letter is slower.
_NUMBER = re.compile(r"\d(?<![A-Za-z\d]\d)\d*(?![A-Za-z\d])")
#: As Chinese and Japanese keyboards write letters and digits.
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ]")


def keywords_of(text: str) -> models.Document:
    """The words of a document or a query; of a text without any, none, which match nothing."""
    return models.Document(text=_words(text), model=_MODEL, options=_OPTIONS)


def keywords_on_the_wire(text: str) -> bytes:
    """The same as bytes which, in the message of a point that is written, add its words to its vectors by name."""
    words = _words(text).encode()
    before, after = _around(len(words))
    return b"".join((before, words, after))


@lru_cache(maxsize=8192)
def _around(size: int) -> tuple[bytes, bytes]:
    """What the message has before and after a text of so many bytes."""
    rest = grpc.Document(model=_MODEL, options=_GRPC_OPTIONS)  # by their numbers, fields after the text
    words = grpc.Vector(document=grpc.Document(text="x" * size, model=_MODEL, options=_GRPC_OPTIONS))
    vectors = grpc.Vectors(vectors=grpc.NamedVectors(vectors={KEYWORDS: words}))
    message = grpc.PointStruct(vectors=vectors).SerializeToString()
    end = len(message) - rest.ByteSize()
    return bytes(message[: end - size]), bytes(message[end:])


def _words(text: str) -> str:
    """A text as Qdrant's tokenizer reads it aright: letters and digits narrow, and numbers as words."""
    return _NUMBER.sub(r"n\g<0>", normalize("NFKC", text) if _WIDE.search(text) else text)
