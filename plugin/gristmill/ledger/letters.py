"""How a dead letter lies in the ledger: compressed, beside the names that its indexes go by."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from gristmill.ledger.roster import name_of
from gristmill_schemas import DeadLetter


def pack_letter(letter: DeadLetter) -> bytes:
    """Encode a letter for the ledger."""
    return zlib.compress(letter.model_dump_json().encode(), level=1)


def read_letter(body: bytes) -> DeadLetter:
    """Decode and validate a letter. Raises NewerFormat and InvalidInput as `DeadLetter.read_json` does."""
    return DeadLetter.read_json(_inflated(body))


def read_letters(bodies: Iterable[bytes | None]) -> Iterator[DeadLetter]:
    """Those that are there and can be read; see `Stored.read_each`."""
    return DeadLetter.read_each(_inflated(body) for body in bodies if body is not None)


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompress(body)
    except zlib.error:
        return b""  # no JSON, so that whoever validates it says what it is


def name_in(letter: DeadLetter) -> str:
    """The document's name, as on the roster; empty where no document could be read."""
    item = letter.document or letter.deletion
    if item is not None:
        return name_of(item.id, item.tenant)
    return "" if letter.document_id is None else name_of(letter.document_id, letter.tenant)


def entry(letter: DeadLetter) -> tuple[str | bytes, ...]:
    """A letter as scripts take it: id, body, error, collection, the collection's key, name of the document."""
    key = letter.collection_key or letter.collection
    return letter.id, pack_letter(letter), letter.error, letter.collection, key, name_in(letter)


def without_text(letter: DeadLetter) -> DeadLetter:
    """The letter once its time is over: what died, and why, but not what it said."""
    item = letter.document or letter.deletion
    if item is None:
        return letter
    return letter.model_copy(update={"document": None, "document_id": item.id, "tenant": item.tenant})
