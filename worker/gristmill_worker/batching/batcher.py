"""The batcher: tokenized texts of all running tasks become batches for the one thread that owns the model.

In: lists of tokenized texts, each in one of two lanes. Out: per list a future with one vector or one error per text.

Each turn, queries (interactive) go first; then a window of everything that waits is planned into batches under the
encoder's limits, sorted by length so that little is padded or ragged. A window is finished before the next is planned, so
nothing starves. As many launches are outstanding as the encoder says: the next is prepared while one runs.

A server that is away fails nobody's text: the callers of that batch get `Unavailable` at once for every text without a
vector, and hand those in again when they have waited. Any other batch that fails is halved until the culprit is alone: with
k culprits among n texts that costs at most about 2k·log2(n) extra launches, and every other text still gets its vector. Out
of memory halves the budget (see `budget`), and what waits is planned anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, ShuttingDown, Unavailable
from gristmill_worker.batching.budget import Budget
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.batching.planner import cost, plan
from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors

log = logging.getLogger(__name__)

#: One row of a result: float32 (D,), or why there is none: the text's own fault, or a server that is away for now.
Row = npt.NDArray[np.float32] | EncodingFailed | Unavailable

#: Most texts planned at once. Enough for sorting to pay, few enough that a query never waits for more than one batch.
_WINDOW_TEXTS = 4096


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
        if self._rows[index] is not None:
            return
        self._rows[index] = row
        self._missing -= 1
        if self._missing == 0:
            # Unless `close` was faster.
            with contextlib.suppress(InvalidStateError):
                self.future.set_result([row for row in self._rows if row is not None])

    def give_up(self, error: Unavailable) -> None:
        """Resolve at once: every row that is still missing is this error. What comes later is dropped."""
        for index in range(len(self._rows)):
            self.put(index, error)

    @property
    def open(self) -> bool:
        """Whether any row is still wanted."""
        return self._missing > 0


@dataclass(frozen=True, slots=True)
class _Entry:
    text: TokenizedText
    submission: _Submission
    index: int


_Batch = list[_Entry]
_Launched = tuple[_Batch, Callable[[], Vectors]]


class Batcher:
    """Owns the model thread. Close it to give waiting callers `ShuttingDown`."""

    def __init__(self, encoder: Encoder, idle: IdleClock | None = None) -> None:
        self._encoder = encoder
        self._idle = idle or IdleClock()
        self._limits = encoder.limits
        self._budget = Budget(self._limits.tokens)
        self._lanes: dict[Lane, deque[_Entry]] = {lane: deque() for lane in Lane}
        self._news = threading.Condition()
        self._closed = False
        #: Since when the model thread waits for the model (monotonic seconds), or None: what the watchdog looks at.
        self.busy_since: float | None = None
        #: Why the device can do no more, or None: what the watch over it looks at.
        self.sick: str | None = None
        self.tokens_done = 0
        self.texts_done = 0
        # What follows belongs to the model thread alone.
        self._planned: deque[_Batch] = deque()
        self._running: deque[_Launched] = deque()
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

    @property
    def budget_tokens(self) -> int:
        """Most tokens that a launch may hold now: less than the encoder's own limit after memory ran out."""
        return self._budget.tokens

    def close(self) -> None:
        """Stop after what is launched, and wait for it; everybody still waiting gets `ShuttingDown`."""
        self.abandon()
        self._thread.join()

    def abandon(self) -> None:
        """Launch nothing any more; everybody still waiting gets `ShuttingDown`."""
        with self._news:
            self._closed = True
            waiting = [entry for lane in self._lanes.values() for entry in lane]
            for lane in self._lanes.values():
                lane.clear()
            self._news.notify()
        _fail(waiting, ShuttingDown("the batcher was closed before this text's turn"))

    # the model thread

    def _run(self) -> None:
        while self._await_work():
            self._serve_queries()
            if batch := self._next_bulk():
                self._launch(batch)
            self._collect_finished()
        while self._running:
            self._collect(*self._running.popleft())
        _fail([entry for batch in self._planned for entry in batch], ShuttingDown("the batcher was closed meanwhile"))

    def _await_work(self) -> bool:
        """Sleep until there is something to do; False means that nothing more is to be done."""
        with self._news:
            while not self._has_work() and not self._closed:
                self._idle.set_idle(True)
                self._news.wait()
            self._idle.set_idle(False)
            return not self._closed

    def _has_work(self) -> bool:
        return bool(self._planned or self._running or any(self._lanes.values()))

    def _serve_queries(self) -> None:
        # At every turn: a query waits for what is launched already, never for a window.
        for batch in self._plan(self._take(Lane.INTERACTIVE)):
            if self._launch(batch):
                self._collect(*self._running.pop())

    def _next_bulk(self) -> _Batch | None:
        if not self._planned:
            self._planned.extend(self._plan(self._take(Lane.BULK)))
        if not self._planned:
            return None
        # Callers who were told to wait want nothing more.
        return [entry for entry in self._planned.popleft() if entry.submission.open]

    def _take(self, lane: Lane) -> list[_Entry]:
        with self._news:
            waiting = self._lanes[lane]
            return [waiting.popleft() for _ in range(min(len(waiting), _WINDOW_TEXTS))]

    def _plan(self, entries: Sequence[_Entry]) -> list[_Batch]:
        lengths = [entry.text.n_tokens for entry in entries]
        groups = plan(lengths, self._budget.tokens, texts=self._limits.texts, padded=self._limits.padded)
        return [[entries[index] for index in group] for group in groups]

    def _launch(self, batch: _Batch) -> bool:
        """Start a batch; False if it failed at once, and what becomes of it has been decided."""
        try:
            with self._busy():
                self._running.append((batch, self._encoder.launch([entry.text for entry in batch])))
                return True
        except Exception as error:  # noqa: BLE001 - whatever a model raises is isolated, text by text
            failure = _bare(error)
        self._isolate(batch, failure)
        return False

    def _collect_finished(self) -> None:
        """Wait for launches until another one may start, or for all where there is nothing to start."""
        while self._running and (len(self._running) >= self._limits.in_flight or not self._more_to_launch()):
            self._collect(*self._running.popleft())

    def _more_to_launch(self) -> bool:
        return bool(self._planned or any(self._lanes.values()))

    def _collect(self, batch: _Batch, result: Callable[[], Vectors]) -> None:
        try:
            with self._busy():
                rows = result()
            if len(rows) != len(batch):
                raise EncodingFailed(f"the model gave {len(rows)} vectors for {len(batch)} texts")
        except Exception as error:  # noqa: BLE001 - see _launch
            failure = _bare(error)
        else:
            self._deliver(batch, rows)
            return
        self._isolate(batch, failure)

    def _deliver(self, batch: _Batch, rows: Vectors) -> None:
        for entry, row in zip(batch, rows, strict=True):
            if np.isfinite(row).all():
                entry.submission.put(entry.index, row)
            else:
                entry.submission.put(entry.index, EncodingFailed("the model gave a vector with NaN or infinity"))
        self._budget.went_well(self._cost(batch))
        self.tokens_done += sum(entry.text.n_tokens for entry in batch)
        self.texts_done += len(batch)

    def _isolate(self, batch: _Batch, error: Exception) -> None:
        if isinstance(error, Unavailable):
            for submission in {entry.submission for entry in batch}:
                submission.give_up(error)
            return
        # What is put back goes through the ordinary turn again, so queries still come in between.
        if isinstance(error, AcceleratorOutOfMemory) and (len(batch) > 1 or self._cost(batch) <= self._budget.tokens):
            self._shrink(batch)
        if len(batch) == 1:
            failure = error if isinstance(error, EncodingFailed) else EncodingFailed(f"{type(error).__name__}: {error}")
            batch[0].submission.put(batch[0].index, failure)
        elif not isinstance(error, AcceleratorOutOfMemory):
            middle = len(batch) // 2
            self._planned.extendleft([batch[middle:], batch[:middle]])

    def _shrink(self, batch: _Batch) -> None:
        """Halve the budget, and plan what failed and what waits anew, so that it does not fail as well."""
        self._budget.ran_out(self._cost(batch))
        log.warning("out of memory with %d texts; budget is now %d tokens", len(batch), self._budget.tokens)
        again = batch if len(batch) > 1 else []
        self._planned = deque(self._plan([*again, *(entry for each in self._planned for entry in each)]))

    def _cost(self, batch: _Batch) -> int:
        return cost([entry.text.n_tokens for entry in batch], padded=self._limits.padded)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self.busy_since = time.monotonic()
        try:
            yield
        finally:
            self.busy_since = None


def encode_all(encoder: Encoder, texts: Sequence[TokenizedText]) -> Vectors:
    """Encode any number of texts through a batcher of their own: float32 (len(texts), D), in order.

    Raises:
        EncodingFailed, Unavailable: of the first text that has no vector.
    """
    batcher = Batcher(encoder)
    try:
        rows = batcher.submit(texts).result()
    finally:
        batcher.close()
    return stacked(rows, encoder.info.dimensions)


def stacked(rows: Sequence[Row], dimensions: int) -> Vectors:
    """Rows as one array, float32 (len(rows), D).

    Raises:
        EncodingFailed, Unavailable: of the first text that has no vector.
    """
    out = np.empty((len(rows), dimensions), dtype=np.float32)
    for index, row in enumerate(rows):
        if isinstance(row, EncodingFailed | Unavailable):
            raise row
        out[index] = row
    return out


def _bare(error: Exception) -> Exception:
    """Without traceback and causes, which would keep the activations of a launch that did not fit in memory."""
    log.debug("a batch failed", exc_info=error)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _fail(entries: Sequence[_Entry], error: Exception) -> None:
    for submission in {entry.submission for entry in entries}:
        # `close` and the model thread may both come upon a caller whose texts are partly in work, partly waiting.
        with contextlib.suppress(InvalidStateError):
            submission.future.set_exception(error)
