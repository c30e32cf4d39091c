"""What a worker is about to write: kept until it has read back what became of it."""

from __future__ import annotations

from typing import ClassVar

from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import Record


class Target(Record):
    """One document that is about to be written."""

    id: str
    tenant: str | None = None
    version: int


class Intent(Stored):
    """Documents that one claim is about to write. Whoever dies in between leaves it behind (`docs/fence.md`)."""

    KIND: ClassVar[str] = "intent"

    #: The claim's token, and its parcel.
    token: str
    parcel_id: str
    #: Name of the physical collection, and its key (`CollectionSpec.key`).
    collection: str
    key: str
    targets: tuple[Target, ...]
