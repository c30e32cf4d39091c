"""Every error Gristmill raises, on one page.

GristmillError
├── InvalidInput (ValueError)      the caller's input; the message names the field, what came and what was expected
│   ├── DocumentsRejected          some documents of one `enqueue` were refused; all others were accepted
│   ├── DimensionsNotSupported     the model has not declared this output size
│   └── SpaceMismatch              vectors of two different models or settings would have met
├── CollectionNotFound (LookupError)
├── ModelUnavailable               no such folder, no such model on the hub, or the hub is out of reach
├── NoWorker                       nobody serves the model that this needs
├── Unavailable                    a server is away; worth trying again (`retry_after_s` says when)
│   ├── StoreUnavailable           Qdrant
│   └── BrokerUnavailable          Redis
├── NewerFormat                    a newer Gristmill wrote this: it is left alone until this side is upgraded
├── StoreRefused                   Qdrant answered, and the answer is no: trying again does not help
├── StoreUnfit                     Qdrant would refuse whatever is written to this collection, as it is now
├── ServerTooOld                   Qdrant lacks a feature that correctness rests on
├── QueueFull                      the high-water mark is reached and the caller did not want to wait
├── WaitTimeout (TimeoutError)     a wait that the caller bounded ran out
├── EncodingFailed                 the model could not encode one text
│   └── AcceleratorOutOfMemory     it did not fit; a smaller batch may
├── DeviceFailed                   the accelerator or its process is sick: nobody's text is at fault
└── ShuttingDown                   this process is draining; the work stays in the ledger for another
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gristmill_schemas.job import Rejection


class GristmillError(Exception):
    """Base of every error that Gristmill raises on purpose."""


class InvalidInput(GristmillError, ValueError):
    """The caller's input is wrong: the message names the field, what came and what was expected."""


class DocumentsRejected(InvalidInput):
    """Some documents of one `enqueue` were refused; every other one was accepted.

    Attributes:
        job: the handle of the job that holds the accepted documents.
        rejections: one record per refused document, in input order.
    """

    def __init__(self, job: Any, rejections: Sequence[Rejection]) -> None:
        self.job = job
        self.rejections = tuple(rejections)
        first = "; ".join(str(r) for r in self.rejections[:3])
        more = f"; and {len(self.rejections) - 3} more" if len(self.rejections) > 3 else ""
        super().__init__(f"{len(self.rejections)} document(s) rejected, all others accepted: {first}{more}")


class DimensionsNotSupported(InvalidInput):
    """The model has not declared that its vectors may be cut to this size."""


class SpaceMismatch(InvalidInput):
    """Vectors of two different models, or of one model under different settings, would have met in one collection."""


class CollectionNotFound(GristmillError, LookupError):
    """No Gristmill collection of this name exists."""


class ModelUnavailable(GristmillError):
    """The model's folder does not exist, or the hub does not have it or is out of reach."""


class NoWorker(GristmillError):
    """No running worker has announced the model that this call needs."""


class Unavailable(GristmillError):
    """A server is away. Trying again is worth it.

    Attributes:
        retry_after_s: seconds the server asked us to wait, or None where it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StoreUnavailable(Unavailable):
    """Qdrant cannot be reached, is overloaded or limits our rate.

    Attributes:
        may_be_the_request: it answered this very request with an internal error. Where others get through meanwhile, what
            was asked may be the cause.
    """

    def __init__(self, message: str, retry_after_s: float | None = None, *, may_be_the_request: bool = False) -> None:
        super().__init__(message, retry_after_s)
        self.may_be_the_request = may_be_the_request


class BrokerUnavailable(Unavailable):
    """Redis cannot be reached."""


class NewerFormat(GristmillError):
    """A newer Gristmill wrote this, in a format that this one does not read. It is left as it is.

    Attributes:
        kind: what it is, such as `parcel`.
        found: its format.
        known: the newest format that this Gristmill reads.
    """

    def __init__(self, kind: str, found: int, known: int) -> None:
        self.kind, self.found, self.known = kind, found, known
        super().__init__(f"{kind}: format {found} is newer than {known}, the newest known here: upgrade this side")


class StoreRefused(GristmillError):
    """Qdrant answered, and the answer is no. Trying the same again does not help."""


class StoreUnfit(GristmillError):
    """Qdrant would refuse whatever is written to this collection: nobody's document is at fault, and work waits."""


class ServerTooOld(GristmillError):
    """The Qdrant server silently ignores a feature that correctness rests on."""


class QueueFull(GristmillError):
    """The ledger is above its high-water mark and the caller did not want to wait."""


class WaitTimeout(GristmillError, TimeoutError):
    """A wait that the caller bounded ran out. The work itself goes on."""


class EncodingFailed(GristmillError):
    """The model could not encode one text."""


class AcceleratorOutOfMemory(EncodingFailed):
    """The batch did not fit into the accelerator's memory."""


class DeviceFailed(GristmillError):
    """The accelerator, or this process's hold on it, is sick: it fails even for texts that it could encode before.

    Attributes:
        suspect: this text was in the batch that failed, so it may have been what broke the device.
    """

    def __init__(self, message: str, *, suspect: bool = False) -> None:
        super().__init__(message)
        self.suspect = suspect


class ShuttingDown(GristmillError):
    """This process is draining. The work stays in the ledger for another worker."""
