"""What waits, for which model, for whom, and whether anyone serves it."""

from __future__ import annotations

from gristmill_schemas.queue.priority import Priority
from gristmill_schemas.validation import Record


class QueuedJob(Record):
    """One job with unfinished work for a model."""

    job_id: str
    #: The name that was asked for.
    collection: str
    #: Whose all of it is; None where it is several tenants', or nobody's.
    tenant: str | None = None
    priority: Priority = Priority.NORMAL
    #: Unfinished ones, waiting or in hand.
    documents: int
    #: Of these, as estimated when they were enqueued.
    tokens: int
    #: Somebody has paused it: what waits is given to no worker until it is resumed.
    paused: bool = False


class ModelQueue(Record):
    """What waits for one model, and who works on it."""

    #: Its name; empty where no worker has ever announced it.
    model: str = ""
    model_digest: str
    #: Unfinished ones, waiting or in hand; so are the documents and tokens. Tokens are an estimate.
    parcels: int
    documents: int
    tokens: int
    #: Of the tokens: those of paused jobs, for which no worker is called.
    paused_tokens: int = 0
    #: Of the parcels: those in workers' hands.
    held_parcels: int
    #: How long the parcel that has waited longest has waited, of those that a worker would be given now; None where none is.
    oldest_waiting_s: float | None = None
    #: Workers that serve the model, and those that are loading it.
    workers: int = 0
    loading: int = 0
    #: Of all of them together, as they have measured; None before the first has.
    tokens_per_s: float | None = None
    #: How long the work that waits will take at this rate, without that of paused jobs; None where it is unknown.
    seconds: float | None = None
    #: Those with the most tokens first.
    jobs: tuple[QueuedJob, ...] = ()

    @property
    def wanted_tokens(self) -> int:
        """Those that workers are there for."""
        return max(0, self.tokens - self.paused_tokens)


class QueueReport(Record):
    """What waits, model by model."""

    models: tuple[ModelQueue, ...] = ()
    #: Tenants of whom something was refused within the last minute, since they have as much waiting as they may; the latest
    #: first, a hundred at most. With a tenant, itself at most.
    limited: tuple[str, ...] = ()
