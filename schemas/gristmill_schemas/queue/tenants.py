"""How much one tenant has waiting, and how much it may."""

from __future__ import annotations

from gristmill_schemas.validation import Record


class TenantWork(Record):
    """What one tenant has unfinished, waiting or in hand, in all collections together, and the most that it may."""

    tenant: str
    documents: int = 0
    #: Of these, as estimated when they were enqueued.
    tokens: int = 0
    #: Of text and metadata, and 64 for each document.
    bytes: int = 0
    #: The most that it may have of each; None where that is not limited.
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None
    #: Those of `documents`, `tokens` and `bytes` whose limit was set for this tenant; the others' is everybody's.
    own: tuple[str, ...] = ()
    #: When something of it was last refused since it was at a limit, if that is within the last minute: seconds since
    #: 1970, by the ledger's clock.
    limited_at: float | None = None
