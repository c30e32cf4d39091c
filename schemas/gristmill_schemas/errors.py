"""Every error Gristmill raises, on one page.

GristmillError
├── InvalidInput (ValueError)      the caller's input; the message names the field, what came and what was expected
│   ├── CollectionConflict         a collection of this name exists with other settings than those asked for
│   ├── DimensionsNotSupported     the model has not declared this output size
│   └── SpaceMismatch              vectors of two different models or settings would have met
├── CollectionNotFound (LookupError)
├── NotInstalled (ImportError)     packages that an extra brings are missing, too old or broken; the message says which extra
├── ModelUnavailable               no such folder, no such model on the hub, or the hub is out of reach
├── NoWorker                       nobody serves the model that this needs
├── Unavailable                    a server is away; worth trying again (`retry_after_s` says when)
│   ├── StoreUnavailable           Qdrant
│   └── BrokerUnavailable          Redis
├── NewerFormat                    a newer Gristmill wrote this: it is left alone until this side is upgraded
├── StoreRefused                   Qdrant answered, and the answer is no: trying again does not help
│   └── RequestTooLarge            it, or a proxy before it, takes smaller requests only: in parts it may go
├── StoreUnfit                     Qdrant would refuse whatever is written to this collection, as it is now
├── BrokerRefused                  Redis answered, and the answer is no: trying again does not help
├── ServerTooOld                   Qdrant lacks a feature that correctness rests on
├── QueueFull                      the high-water mark, or a tenant's limit, is reached and the caller did not want to wait
├── JobCancelled                   somebody has cancelled the job while its documents were handed over
├── WaitTimeout (TimeoutError)     a wait that the caller bounded ran out
├── DocumentsFailed                documents of a job were rejected or died; raised where the caller asks for it
├── EncodingFailed                 the model could not encode one text
│   └── AcceleratorOutOfMemory     it did not fit; a smaller batch may
├── DeviceFailed                   the accelerator or its process is sick: nobody's text is at fault
└── ShuttingDown                   this process is draining; the work stays in the ledger for another
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gristmill_schemas.redaction import redact


class GristmillError(Exception):
    """Base of every error that Gristmill raises on purpose. Its message holds no secret, whatever was put into it.

    Attributes:
        field: the argument, setting or field of a record that it is about, where it is about one.
        collection: the collection that it is about, where it is about one.
        model: the model that it is about, where it is about one.
    """

    def __init__(
        self, message: str = "", *, field: str | None = None, collection: str | None = None, model: str | None = None
    ) -> None:
        self.field = field
        self.collection = collection
        self.model = model
        super().__init__(redact(message))


class InvalidInput(GristmillError, ValueError):
    """The caller's input is wrong: the message names the field, what came and what was expected."""


class CollectionConflict(InvalidInput):
    """A collection of this name exists with other settings than those asked for; the message says both."""


class DimensionsNotSupported(InvalidInput):
    """The model has not declared that its vectors may be cut to this size."""


class SpaceMismatch(InvalidInput):
    """Vectors of two different models, or of one model under different settings, would have met in one collection."""


class CollectionNotFound(GristmillError, LookupError):
    """No Gristmill collection of this name exists."""


class NotInstalled(GristmillError, ImportError):
    """Packages that an extra brings are missing, too old or broken; the message says what to install.

    Attributes:
        name: the module that could not be found, where it is known.
    """

    def __init__(self, message: str = "", *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class ModelUnavailable(GristmillError):
    """The model's folder does not exist, or the hub does not have it or is out of reach."""


class NoWorker(GristmillError):
    """No running worker has announced the model that this call needs."""


class Unavailable(GristmillError):
    """A server is away. Trying again is worth it.

    Attributes:
        retry_after_s: seconds the server asked us to wait, or None where it did not say.
        may_be_the_request: it did answer, with an internal error or with nonsense. Where others get through meanwhile, what
            was asked may be the cause.
    """

    def __init__(
        self,
        message: str = "",
        retry_after_s: float | None = None,
        *,
        may_be_the_request: bool = False,
        field: str | None = None,
        collection: str | None = None,
        model: str | None = None,
    ) -> None:
        self.retry_after_s = retry_after_s
        self.may_be_the_request = may_be_the_request
        super().__init__(message, field=field, collection=collection, model=model)


class StoreUnavailable(Unavailable):
    """Qdrant cannot be reached, is overloaded or limits our rate."""


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
        here = f"{known}, the newest that gristmill {_version()} reads"
        super().__init__(f"{kind}: format {found} is newer than {here}: upgrade this side")


def _version() -> str:
    """Of the installation: both sides of a mixed one say theirs."""
    try:
        return version("gristmill")
    except PackageNotFoundError:  # from a source tree
        return "(a source tree)"


class StoreRefused(GristmillError):
    """Qdrant answered, and the answer is no. Trying the same again does not help."""


class RequestTooLarge(StoreRefused):
    """Qdrant, or a proxy before it, does not take requests of this size. In smaller parts the same may be taken."""


class StoreUnfit(GristmillError):
    """Qdrant would refuse whatever is written to this collection: nobody's document is at fault, and work waits."""


class BrokerRefused(GristmillError):
    """Redis answered, and the answer is no. Trying the same again does not help."""


class ServerTooOld(GristmillError):
    """The Qdrant server silently ignores a feature that correctness rests on."""


class QueueFull(GristmillError):
    """The ledger is above its high-water mark, or a tenant has as much as it may, and the caller did not want to wait.

    Attributes:
        tenant: who has as much as it may; None where the whole queue is full.
    """

    def __init__(self, message: str = "", *, collection: str | None = None, tenant: str | None = None) -> None:
        self.tenant = tenant
        super().__init__(message, collection=collection)


class JobCancelled(GristmillError):
    """Somebody has cancelled the job whose documents are being handed over: it takes no more of them."""


class WaitTimeout(GristmillError, TimeoutError):
    """A wait that the caller bounded ran out. The work itself goes on."""


class DocumentsFailed(GristmillError):
    """Documents of a job were rejected at the door, or died on their way; every other one is stored or on its way.

    Attributes:
        report: the job's counters; `report.rejected` and `report.dead` say how many, `report.reasons` says why.
        job_id: the job.
    """

    def __init__(self, report: Any) -> None:
        """`report`: the `JobReport`, whose module knows this one and not the other way round."""
        self.report = report
        self.job_id = report.job_id
        super().__init__(report.describe_failures(), collection=report.collection)

    def __reduce__(self) -> tuple[type[DocumentsFailed], tuple[Any]]:
        return type(self), (self.report,)


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
