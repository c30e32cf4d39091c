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
    document_id, tenant = letter.identity
    return "" if document_id is None else name_of(document_id, tenant)


def entry(letter: DeadLetter) -> tuple[str | bytes, ...]:
    """A letter as scripts take it: id, body, error, collection, the collection's key, name of the document."""
    key = letter.collection_key or letter.collection
    return letter.id, pack_letter(letter), letter.error, letter.collection, key, name_in(letter)


def without_text(letter: DeadLetter) -> DeadLetter:
    """The letter once its time is over: what died, and why, but not what it said."""
    document_id, tenant = letter.identity
    return letter.model_copy(update={"document": None, "document_id": document_id, "tenant": tenant})


def is_meant(
    letter: DeadLetter, collection: str | None, job_id: str | None, error: str | None, tenant: str | None
) -> bool:
    """Whether a letter is of this collection, job, error and tenant, where they are given."""
    asked = ((collection, letter.collection), (job_id, letter.job_id), (error, letter.error))
    return all(wanted in (None, found) for wanted, found in asked) and is_of_tenant(letter, tenant)


def is_of_tenant(letter: DeadLetter, tenant: str | None) -> bool:
    """Whether what died is of this tenant, where one is given; what nobody could read is nobody's."""
    return tenant is None or letter.identity[1] == tenant


def is_of_job(letter_id: bytes, job_id: str | None) -> bool:
    """The same by the letter's id alone, which begins with its parcel's and so with its job's: no body is fetched."""
    return job_id is None or letter_id.startswith(f"{job_id}.".encode())
