"""The batcher: tokenized texts of all running tasks become batches for the one thread that owns the model.

In: lists of tokenized texts, each in one of two lanes. Out: per list a future with one vector or one error per text.

Each turn, queries (interactive) go first; then a window of everything that waits is planned into batches under the token
budget, sorted by length so that little is padded or ragged. A window is finished before the next is planned, so nothing
starves. While one batch computes on an accelerator, the next is already being launched.

A batch that fails is halved until the culprit is alone: with k culprits among n texts that costs at most about
2k·log2(n) extra launches, and every other text still gets its vector. Out of memory halves the budget too.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, ShuttingDown
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.batching.planner import plan
from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors

log = logging.getLogger(__name__)

#: One row of a result: float32 (D,), or why there is none.
Row = npt.NDArray[np.float32] | EncodingFailed

#: Most texts planned at once. Enough for sorting to pay, few enough that a query never waits for more than one batch.
_WINDOW_TEXTS = 4096
#: Smallest budget that running out of memory may leave.
_LEAST_BUDGET = 64


class Lane(StrEnum):
    """Who goes first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class _Submission:
    """One caller's texts; resolves its future when the last row is there."""

    def __init__(self, size: int) -> None:
        self.future: Future[list[Row]] = Future()
        self._rows: list[Row | None] = [None] * size
        self._missing = size

    def put(self, index: int, row: Row) -> None:
        self._rows[index] = row
        self._missing -= 1
        if self._missing == 0:
            self.future.set_result([row for row in self._rows if row is not None])


@dataclass(frozen=True, slots=True)
class _Entry:
    text: TokenizedText
    submission: _Submission
    index: int


_Launched = tuple[list[_Entry], Callable[[], Vectors]]


class Batcher:
    """Owns the model thread. Close it to give waiting callers `ShuttingDown`."""

    def __init__(self, encoder: Encoder, idle: IdleClock | None = None) -> None:
        self._encoder = encoder
        self._idle = idle or IdleClock()
        self._budget = encoder.budget_tokens
        self._lanes: dict[Lane, deque[_Entry]] = {lane: deque() for lane in Lane}
        self._news = threading.Condition()
        self._closed = False
        #: When the batch on the model was launched (monotonic seconds), or None: what the watchdog looks at.
        self.busy_since: float | None = None
        self.tokens_done = 0
        self.texts_done = 0
        self._thread = threading.Thread(target=self._run, name="gristmill-model", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[TokenizedText], lane: Lane = Lane.BULK) -> Future[list[Row]]:
        """Queue texts; the future gives one row per text, in order. No texts give an empty list at once."""
        submission = _Submission(len(texts))
        if not texts:
            submission.future.set_result([])
            return submission.future
        with self._news:
            if self._closed:
                raise ShuttingDown("the batcher is closed")
            self._lanes[lane].extend(_Entry(text, submission, index) for index, text in enumerate(texts))
            self._news.notify()
        return submission.future

    @property
    def queued_texts(self) -> int:
        """Texts that wait for the model."""
        return sum(len(lane) for lane in self._lanes.values())

    def close(self) -> None:
        """Stop after the running batch; everybody still waiting gets `ShuttingDown`."""
        with self._news:
            self._closed = True
            waiting = {entry.submission for lane in self._lanes.values() for entry in lane}
            for lane in self._lanes.values():
                lane.clear()
            self._news.notify()
        for submission in waiting:
            _fail(submission, ShuttingDown("the batcher was closed before this text's turn"))
        self._thread.join()

    # the model thread

    def _run(self) -> None:
        while (window := self._next_window()) is not None:
            self._encode_window(window)

    def _next_window(self) -> list[_Entry] | None:
        with self._news:
            # A launch that failed has left its time here; the watchdog must not take an idle thread for a hung one.
            self.busy_since = None
            while not any(self._lanes.values()) and not self._closed:
                self._idle.set_idle(True)
                self._news.wait()
            self._idle.set_idle(False)
            if self._closed:
                return None
            lane = self._lanes[Lane.INTERACTIVE] or self._lanes[Lane.BULK]
            return [lane.popleft() for _ in range(min(len(lane), _WINDOW_TEXTS))]

    def _encode_window(self, window: list[_Entry]) -> None:
        batches = [[window[i] for i in group] for group in plan([e.text.n_tokens for e in window], self._budget)]
        running: _Launched | None = None
        for position, batch in enumerate(batches):
            if self._closed:
                _abandon(batches[position:])
                break
            launched = self._launch(batch)
            if running is not None:
                self._collect(running)
            running = launched
            self._serve_interactive()
        if running is not None:
            self._collect(running)

    def _serve_interactive(self) -> None:
        # Between two batches of bulk work: a query waits for at most one batch, not for a window.
        with self._news:
            lane = self._lanes[Lane.INTERACTIVE]
            urgent = [lane.popleft() for _ in range(len(lane))]
        for group in plan([entry.text.n_tokens for entry in urgent], self._budget):
            if (launched := self._launch([urgent[i] for i in group])) is not None:
                self._collect(launched)

    def _launch(self, batch: list[_Entry]) -> _Launched | None:
        self.busy_since = time.monotonic()
        try:
            return batch, self._encoder.launch([entry.text for entry in batch])
        except Exception as error:  # noqa: BLE001 - whatever a model raises is isolated, text by text
            self._isolate(batch, error)
            return None

    def _collect(self, launched: _Launched) -> None:
        batch, result = launched
        self.busy_since = time.monotonic()
        try:
            rows = result()
            if len(rows) != len(batch):
                raise EncodingFailed(f"the model gave {len(rows)} vectors for {len(batch)} texts")
        except Exception as error:  # noqa: BLE001 - see _launch
            self._isolate(batch, error)
            return
        finally:
            self.busy_since = None
        for entry, row in zip(batch, rows, strict=True):
            if np.isfinite(row).all():
                entry.submission.put(entry.index, row)
            else:
                entry.submission.put(entry.index, EncodingFailed("the model gave a vector with NaN or infinity"))
        self.tokens_done += sum(entry.text.n_tokens for entry in batch)
        self.texts_done += len(batch)

    def _isolate(self, batch: list[_Entry], error: Exception) -> None:
        if isinstance(error, AcceleratorOutOfMemory):
            self._budget = max(self._budget // 2, _LEAST_BUDGET)
            log.warning("out of memory with %d texts; budget is now %d tokens", len(batch), self._budget)
        if len(batch) == 1:
            failure = error if isinstance(error, EncodingFailed) else EncodingFailed(f"{type(error).__name__}: {error}")
            batch[0].submission.put(batch[0].index, failure)
            return
        for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
            if (launched := self._launch(half)) is not None:
                self._collect(launched)


def _abandon(batches: list[list[_Entry]]) -> None:
    for submission in {entry.submission for batch in batches for entry in batch}:
        _fail(submission, ShuttingDown("the batcher was closed before this text's turn"))


def _fail(submission: _Submission, error: Exception) -> None:
    # `close` and the model thread may both come upon a caller whose texts are partly in work, partly waiting.
    with contextlib.suppress(InvalidStateError):
        submission.future.set_exception(error)
