"""What a server serves and how it is: its models by name, its keys and limits, and whether it starts, runs or stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import shown
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder import Encoder
from gristmill_worker.metering.meter import ModelMeter
from gristmill_worker.reranker.base import Reranker
from gristmill_worker.server.errors import Refused
from gristmill_worker.server.keys import Keys
from gristmill_worker.settings import ServerSettings

#: Bounds of `Retry-After` where the queue is full, seconds.
_SOONEST_S, _LATEST_S = 1.0, 60.0


class Phase(StrEnum):
    """Where in its life a server is."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class ServedEncoder:
    """A model that embeds, and the batcher that all requests to it share."""

    #: As clients call it.
    name: str
    encoder: Encoder
    batcher: Batcher
    meter: ModelMeter

    @property
    def info(self) -> EncoderInfo:
        """What the model says about itself."""
        return self.encoder.info

    @property
    def sick(self) -> str | None:
        """Why nothing is encoded any more; None while the device is well."""
        return self.batcher.sick


@dataclass(slots=True)
class ServedReranker:
    """A model that scores pairs."""

    name: str
    reranker: Reranker
    #: Documents of answered requests.
    scored: int = 0

    @property
    def info(self) -> EncoderInfo:
        """What the model says about itself."""
        return self.reranker.info

    @property
    def sick(self) -> str | None:
        """See `Reranker.sick`."""
        return self.reranker.sick


Served = ServedEncoder | ServedReranker
S = TypeVar("S", bound=Served)


class Service:
    """One per server. Its event loop alone changes it, except for `serve`, which is called once, before `READY`."""

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.time) -> None:
        """Nothing is served yet.

        Raises:
            InvalidInput: the file of keys holds none, or cannot be read.
        """
        self.settings = settings
        self.keys = Keys(Path(settings.serve_api_keys)) if settings.serve_api_keys else None
        self.phase = Phase.LOADING
        self.created = int(clock())
        #: The time for a stop is over: what still runs is given up.
        self.over = asyncio.Event()
        #: Under way, from the first byte of the body to the last of the answer.
        self.requests = 0
        #: Texts and pairs of requests that wait for a model, or are on it.
        self.texts = 0
        self._served: list[Served] = []

    def serve(self, served: Served) -> None:
        """Serve one more model."""
        self._served.append(served)

    @property
    def all(self) -> tuple[Served, ...]:
        """What is served, as it was named at the start."""
        return tuple(self._served)

    @property
    def sick(self) -> str | None:
        """Why a model gives nothing any more; None while all are well."""
        return next((each.sick for each in self._served if each.sick), None)

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self.phase is Phase.READY and self.sick is None

    def find(self, name: str) -> Served:
        """Whatever has that name. Raises as `encoder` does."""
        there: list[Served] = [*self._served]
        return self._find(name, there, "is served")

    def encoder(self, name: str) -> ServedEncoder:
        """The model of that name.

        Raises:
            Refused: there is none that embeds, or it is not loaded yet.
        """
        return self._find(name, [each for each in self._served if isinstance(each, ServedEncoder)], "embeds")

    def reranker(self, name: str | None) -> ServedReranker:
        """The reranker of that name; None means the only one. Raises as `encoder` does."""
        there = [each for each in self._served if isinstance(each, ServedReranker)]
        return there[0] if name is None and len(there) == 1 else self._find(name, there, "reranks")

    def _find(self, name: str | None, there: list[S], does: str) -> S:
        if self.phase is Phase.LOADING:
            raise Refused(503, "the model is loading; try again later, or wait for /readyz", retry_after_s=5)
        found = next((each for each in there if name in (each.name, each.info.model)), None)
        if found is None:
            known = ", ".join(repr(each.name) for each in there) or "none"
            came = "none" if name is None else shown(name, 200)
            raise Refused(
                404,
                f"model: The model {came} does not exist here: expected one that {does} ({known}), got {came}; "
                "/v1/models lists all",
                param="model",
                code="model_not_found",
            )
        return found

    @contextmanager
    def waiting(self, texts: int) -> Iterator[None]:
        """So many texts or pairs wait for a model while the block runs.

        Raises:
            Refused: 429, as many wait as may. A request of any size is taken where nothing waits.
        """
        most = self.settings.serve_queue_texts
        if self.texts and self.texts + texts > most:
            raise Refused(
                429,
                f"expected at most {most} texts to wait at once, got {texts} beside the {self.texts} that wait; try again "
                "after the time in Retry-After (GRISTMILL_SERVE_QUEUE_TEXTS)",
                code="rate_limit_exceeded",
                retry_after_s=self._later_s(),
            )
        self.texts += texts
        try:
            yield
        finally:
            self.texts -= texts

    def _later_s(self) -> float:
        """About how long half of what waits takes, by what was done since the start."""
        done = sum(each.batcher.texts_done for each in self._served if isinstance(each, ServedEncoder))
        rate = done / max(1.0, time.time() - self.created)
        return min(_LATEST_S, max(_SOONEST_S, self.texts / 2 / rate if rate else _SOONEST_S))


def names_of(models: Sequence[str]) -> list[str]:
    """How clients call the models: a hub id or a stand-in as it is, a folder by its last part.

    Raises:
        InvalidInput: two would have one name.
    """
    names = [Path(model).name if Path(model).is_dir() else model for model in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidInput(f"model: expected each model once, got {twice[0]!r} twice: rename a folder", field="model")
    return names
