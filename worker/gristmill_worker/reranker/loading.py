"""From a worker's settings to its reranker, and from a request to the numbers of its answer."""

from __future__ import annotations

import threading

from gristmill.ledger.clock import LedgerClock
from gristmill_schemas import EncoderInfo, RerankRequest
from gristmill_worker.reranker.base import Reranker, Scores
from gristmill_worker.reranker.open import open_reranker
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.patience import Patience

_MICROS = 1_000_000


def load_reranker(settings: WorkerSettings) -> Reranker:
    """The reranker that settings of one (`of_reranker`) mean, loaded.

    Raises:
        ModelUnavailable, InvalidInput: the settings cannot work.
        Unavailable: its server stayed away for as long as the settings wait for it.
    """
    return Patience(threading.Event()).call(lambda: _open(settings), at_most_s=settings.remote_wait_s)


def of_reranker(settings: WorkerSettings) -> list[WorkerSettings]:
    """The settings as if the reranker were the model, one at most: what describes the model is not the reranker's."""
    if settings.reranker is None:
        return []
    own = {"revision": settings.reranker_revision, "max_tokens": settings.reranker_max_tokens, "pooling": None}
    return [settings.model_copy(update={"model": settings.reranker, **own})]


def _open(settings: WorkerSettings) -> Reranker:
    key = settings.remote_api_key
    return open_reranker(
        settings.model,
        revision=settings.revision,
        device=settings.device,
        dtype=settings.dtype,
        max_tokens=settings.max_tokens,
        budget_tokens=settings.budget_tokens,
        api_key=key.get_secret_value() if key else None,
        trust_remote_code=settings.trust_remote_code,
    )


class Scoring:
    """A reranker as a query lane sees it; it gives up a request for which nobody waits any more."""

    reads = RerankRequest

    def __init__(self, reranker: Reranker, clock: LedgerClock) -> None:
        self._reranker, self._clock = reranker, clock

    @property
    def info(self) -> EncoderInfo:
        """The model."""
        return self._reranker.info

    @property
    def sick(self) -> str | None:
        """See `Reranker.sick`."""
        return self._reranker.sick

    def answer(self, request: RerankRequest) -> Scores:
        """The scores of a request; see `Reranker.score`."""
        deadline = request.deadline_us / _MICROS
        return self._reranker.score(
            request.query, request.documents, request.instruction, expired=lambda: self._clock.now() > deadline
        )
