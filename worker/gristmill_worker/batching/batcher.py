"""The batcher: tokenized texts of all running tasks become batches for the model, by the one thread that plans them.

In: lists of tokenized texts, each in one of two lanes. Out: per list a future with one vector or one error per text.

Each turn, queries (interactive) go first; then a window of the oldest that wait is planned into batches under the encoder's
limits, sorted by length so that little is padded or ragged. A window is launched before the next is planned, so nothing
starves. As many launches are outstanding as the encoder says, and a query's is one more, which waits for none of them where
the device lets it by (see `launches`). What becomes of a batch that failed `judge` says.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import AcceleratorOutOfMemory, DeviceFailed, EncodingFailed, ShuttingDown
from gristmill_worker.batching.budget import Budget
from gristmill_worker.batching.canary import nonsense, same_input
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.batching.judge import Away, Guilty, Judge, OneOfThem, Sick, TooLarge, Unfounded
from gristmill_worker.batching.launches import Launches
from gristmill_worker.batching.planner import cost, plan, shares, spread, window
from gristmill_worker.batching.rate_meter import RateMeter
from gristmill_worker.batching.submission import (
    Batch,
    Encoded,
    Entry,
    Lane,
    Launched,
    Row,
    Submission,
    fail,
    halves,
    interactive,
    stacked,
    step_back,
    wanted,
)
from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors
from gristmill_worker.metering.meter import ModelMeter

log = logging.getLogger(__name__)

#: Most texts planned at once. Enough for sorting to pay, few enough that a query never waits for more than one batch.
_WINDOW_TEXTS = 4096
#: Most tokens of queries in one launch, one longer query apart. Below, a launch on a card costs the same whatever it holds,
#: since the host starts kernels more slowly than the card ends them; beyond, each further query makes all of them wait.
QUERY_TOKENS = 640


class Batcher:
    """Owns the model thread. Close it to give waiting callers `ShuttingDown`."""

    def __init__(self, encoder: Encoder, idle: IdleClock | None = None, meter: ModelMeter | None = None) -> None:
        """Start the model thread, after a first look at the canary, which warms the encoder up.

        Raises:
            DeviceFailed: the encoder is sick from the start.
            Unavailable: its server is away.
        """
        self._encoder = encoder
        self._judge = Judge(encoder)
        self._idle = idle or IdleClock()
        self._meter = meter or ModelMeter()
        self._limits = encoder.limits
        self._budget = Budget(self._limits.tokens)
        self._lanes: dict[Lane, deque[Entry]] = {lane: deque() for lane in Lane}
        self._news = threading.Condition()
        self._closed = False
        #: Since when the model thread waits for the model, monotonic seconds.
        self._waits_since: float | None = None
        #: Why nothing is encoded any more, or None while the device is well. It never gets well again in this process.
        self.sick: str | None = None
        self.tokens_done = 0
        self.texts_done = 0
        self.batches_done = 0
        self._rate = RateMeter(self._idle.busy_s)
        #: The last text that was encoded, and its vector.
        self._last: tuple[TokenizedText, npt.NDArray[np.float32]] | None = None
        # What follows belongs to the model thread alone.
        self._urgent: deque[Batch] = deque()
        self._planned: deque[Batch] = deque()
        self._launches: Launches[Batch] = Launches(encoder, self._hear)
        #: What would be forgotten if this thread died here.
        self._in_hand: Batch = []
        self._thread = threading.Thread(target=self._run, name="gristmill-model", daemon=True)
        self._thread.start()

    def submit(
        self,
        texts: Sequence[TokenizedText],
        lane: Lane = Lane.BULK,
        encoded: Encoded | None = None,
        launched: Launched | None = None,
    ) -> Future[list[Row]]:
        """Queue texts; the future gives one row per text, in order. No texts give an empty list at once.

        Whoever cancels the future takes out what of its texts is not launched yet.

        Args:
            texts: of one caller.
            lane: who goes first.
            encoded: told of each text that has its vector, long before the last has.
            launched: told when the first of them is on its way through the model.

        Raises:
            ShuttingDown: the batcher is closed. From this call or from the future.
            DeviceFailed: the device is sick; `suspect` says whether one of these texts may have done it. From this call or
                from the future.
        """
        submission = Submission(len(texts), lane, encoded, launched)
        if not texts:
            submission.future.set_result([])
            return submission.future
        with self._news:
            if self._closed:
                raise ShuttingDown("the batcher is closed")
            if self.sick is not None:
                raise DeviceFailed(self.sick)
            self._lanes[lane].extend(Entry(text, submission, index) for index, text in enumerate(texts))
            self._news.notify()
        return submission.future

    @property
    def queued_texts(self) -> int:
        """Texts that wait for the model."""
        return sum(len(lane) for lane in self._lanes.values())

    @property
    def tokens_per_s(self) -> float | None:
        """Useful tokens per second of work, by batches as full as they come; None before that was measured."""
        return self._rate.tokens_per_s

    @property
    def launch_ms(self) -> dict[str, float] | None:
        """How long the model thread takes to launch bulk work: `median` and `p95` of the latest; None where they compute."""
        if not (took_s := self._launches.took_s):
            return None
        median, p95 = (round(1e3 * float(each), 2) for each in np.percentile(took_s, (50, 95)))
        return {"median": median, "p95": p95}

    @property
    def busy_since(self) -> float | None:
        """Since when the model has been at its oldest batch (monotonic seconds), or None: what the watchdog looks at."""
        return min((each for each in (self._waits_since, self._launches.since()) if each is not None), default=None)

    @property
    def batch_s(self) -> float:
        """How long the model has been at its oldest batch, seconds; 0 where there is none."""
        since = self.busy_since
        return 0.0 if since is None else round(time.monotonic() - since, 1)

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
            waiting = self._take_all()
            self._news.notify()
        fail(waiting, ShuttingDown("the batcher was closed before this text's turn"))

    def _take_all(self) -> list[Entry]:
        waiting = [entry for lane in self._lanes.values() for entry in lane]
        for lane in self._lanes.values():
            lane.clear()
        return waiting

    # the model thread

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            log.critical("the model thread died", exc_info=True)
            self._fall_sick(f"the model thread died: {type(error).__name__}: {error}", self._in_hand)
        finally:
            self._launches.close()

    def _work(self) -> None:
        while self._await_work():
            self._in_hand = []
            self._serve_queries()
            if batch := self._next_bulk():
                self._launch(batch)
            while self._launches.due(more=self._more_to_launch()):
                self._collect(*self._launches.take())
        while self._launches:
            with self._news:
                self._news.wait_for(lambda: self._launches.due(more=False))
            self._collect(*self._launches.take())
        left = [*self._urgent, *self._planned]
        fail([entry for batch in left for entry in batch], ShuttingDown("the batcher was closed meanwhile"))

    def _hear(self) -> None:
        """A launch has ended on a thread of its own."""
        with self._news:
            self._news.notify()

    def _await_work(self) -> bool:
        """Sleep until there is something to do; False means that nothing more is to be done."""
        with self._news:
            while not self._has_work() and not self._closed:
                self._idle.set_idle(not self._launches)
                self._news.wait()
            self._idle.set_idle(False)
            return not self._closed

    def _has_work(self) -> bool:
        queries, bulk = self._waiting()
        if (queries and self._launches.takes_query) or (bulk and self._launches.room):
            return True
        return self._launches.due(more=queries or bulk)

    def _waiting(self) -> tuple[bool, bool]:
        """Whether queries are to be launched, and bulk work."""
        lanes = self._lanes
        return bool(self._urgent or lanes[Lane.INTERACTIVE]), bool(self._planned or lanes[Lane.BULK])

    def _more_to_launch(self) -> bool:
        return any(self._waiting())

    def _serve_queries(self) -> None:
        # At every turn: a query waits for what is launched already, never for a window.
        self._urgent.extend(self._plan(self._take(Lane.INTERACTIVE, _WINDOW_TEXTS), QUERY_TOKENS))
        while self._urgent and self._launches.takes_query:
            if (batch := wanted(self._urgent.popleft())) and self._launch(batch) and self._launches.in_order:
                self._collect(*self._launches.take(newest=True))

    def _next_bulk(self) -> Batch | None:
        if not self._launches.room:
            return None
        if not self._planned:
            self._planned.extend(self._plan(self._take_window()))
        if not self._planned:
            return None
        return wanted(self._planned.popleft())

    def _take_window(self) -> list[Entry]:
        self._budget.measured_anew(self._encoder.limits.tokens)
        with self._news:
            oldest = [entry.text.n_tokens for entry in itertools.islice(self._lanes[Lane.BULK], _WINDOW_TEXTS)]
        return self._take(Lane.BULK, window(oldest, self._budget.tokens, padded=self._limits.padded))

    def _take(self, lane: Lane, most: int) -> list[Entry]:
        with self._news:
            waiting = self._lanes[lane]
            self._in_hand = [waiting.popleft() for _ in range(min(len(waiting), most))]
        return self._in_hand

    def _plan(self, entries: Sequence[Entry], most_tokens: int | None = None) -> list[Batch]:
        self._budget.measured_anew(self._encoder.limits.tokens)
        lengths = [entry.text.n_tokens for entry in entries]
        budget = min(self._budget.tokens, most_tokens or self._budget.tokens)
        groups = shares(lengths, budget, self._launches.at_once) if most_tokens is None else None
        if groups is None:
            groups = spread(plan(lengths, budget, texts=self._limits.texts, padded=self._limits.padded))
        return [[entries[index] for index in group] for group in groups]

    def _launch(self, batch: Batch) -> bool:
        """Start a batch; False if it failed at once, and what becomes of it has been decided."""
        self._in_hand = batch
        for entry in batch:
            entry.submission.launch()
        try:
            with self._busy():
                texts, alone = [entry.text for entry in batch], not self._more_to_launch()
                self._launches.start(batch, texts, query=interactive(batch), alone=alone)
                return True
        except BaseException as error:  # noqa: BLE001 - whatever a model raises, panics of native code included, is judged
            failure = _bare(error)
        self._judge_failed(batch, failure)
        return False

    def _collect(self, batch: Batch, result: Callable[[], Vectors], *, alone: bool = False) -> None:
        self._in_hand = batch
        try:
            with self._busy():
                rows = result()
            if (problem := nonsense([entry.text for entry in batch], rows, self._encoder.info.dimensions)) is not None:
                raise EncodingFailed(problem)
        except BaseException as error:  # noqa: BLE001 - see _launch
            self._judge_failed(batch, _bare(error), alone=alone)
            return
        if self._repeats_itself(batch, rows):
            self._judge_failed(batch, EncodingFailed("one vector for different texts, one after the other"), rows)
        else:
            self._deliver(batch, rows)

    def _repeats_itself(self, batch: Batch, rows: Vectors) -> bool:
        """Whether a batch begins with the vector that the one before, of another text, ended with.

        Within a batch `nonsense` sees that; batches of one text show it only to each other. The canary has the last word:
        different texts may mean the same to a model that is well.
        """
        before, self._last = self._last, (batch[-1].text, rows[-1].copy())
        return before is not None and not same_input(before[0], batch[0].text) and np.array_equal(before[1], rows[0])

    def _deliver(self, batch: Batch, rows: Vectors) -> None:
        for entry, row in zip(batch, rows, strict=True):
            entry.submission.put(entry.index, row)
        computed, query = self._cost(batch), interactive(batch)
        self._budget.went_well(computed)
        tokens = sum(entry.text.n_tokens for entry in batch)
        if query:
            # Beside bulk work it took none of the time.
            if self._launches.in_order or not self._launches:
                self._rate.skip()
        else:
            self._rate.done(tokens, self._budget.tokens)
        self._meter.batch(tokens, computed, self._budget.tokens, interactive=query)
        self.tokens_done += tokens
        self.texts_done += len(batch)
        self.batches_done += 1
        self._judge.well([entry.text for entry in batch])

    # what failed

    def _judge_failed(
        self, batch: Batch, error: BaseException, doubted: Vectors | None = None, *, alone: bool = False
    ) -> None:
        """Carry out what is decided about a batch that failed, or whose vectors are in doubt."""
        if len(batch) == 1 and isinstance(error, AcceleratorOutOfMemory) and not (alone or self._launches.in_order):
            self._try_alone(batch)
            return
        with self._busy():
            verdict = self._judge.of([entry.text for entry in batch], error, doubted=doubted is not None)
        match verdict:
            case Away(away):
                step_back(batch, away)
            case TooLarge():
                self._shrink(batch)
            case OneOfThem():
                self._lane_of(batch).extendleft(reversed(halves(batch)))
            case Guilty(failure):
                batch[0].submission.put(batch[0].index, failure)
            case Sick(reason, suspect):
                # An accelerator reports an error late, maybe at a launch after the guilty one: what else is under way on it
                # is as suspect as what failed.
                under_way = [entry for other in self._launches.batches() for entry in other]
                self._fall_sick(reason, [*batch, *under_way] if suspect else ())
                fail(batch, DeviceFailed(reason))
            case Unfounded() if doubted is not None:
                self._deliver(batch, doubted)

    def _fall_sick(self, reason: str, suspects: Sequence[Entry] = ()) -> None:
        log.critical("%s", reason)
        with self._news:
            self.sick = reason
            waiting = self._take_all()
        fail(suspects, DeviceFailed(reason, suspect=True))
        batches = [*self._urgent, *self._planned, *self._launches.batches()]
        fail([*waiting, *(entry for batch in batches for entry in batch)], DeviceFailed(reason))
        for each in (self._urgent, self._planned, self._launches):
            each.clear()

    def _try_alone(self, batch: Batch) -> None:
        """Once more, when what else held memory has ended: only then it says something of the text, or of the device."""
        try:
            while self._launches:
                self._collect(*self._launches.take())
        finally:
            self._in_hand = [*self._in_hand, *batch]
        if self.sick is not None:
            fail(batch, DeviceFailed(self.sick))
            return
        self._collect(batch, lambda: self._encoder.encode([entry.text for entry in batch]), alone=True)

    def _shrink(self, batch: Batch) -> None:
        """Halve the batch and the budget, and plan what waits anew, so that it does not fail as well."""
        # A query's few tokens did not fit beside bulk work: that is what was too large.
        beside = interactive(batch) and not self._launches.in_order
        self._budget.ran_out(self._budget.tokens if beside else self._cost(batch))
        log.warning("out of memory with %d texts; budget is now %d tokens", len(batch), self._budget.tokens)
        later = self._plan([entry for each in self._planned for entry in each])
        self._planned = deque(later)
        self._lane_of(batch).extendleft(reversed(halves(batch)))

    def _lane_of(self, batch: Batch) -> deque[Batch]:
        """Where what is left of a batch goes: queries stay queries."""
        return self._urgent if interactive(batch) else self._planned

    def _cost(self, batch: Batch) -> int:
        return cost([entry.text.n_tokens for entry in batch], padded=self._limits.padded)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._waits_since = time.monotonic()
        try:
            yield
        finally:
            self._waits_since = None


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


def _bare(error: BaseException) -> BaseException:
    """Without traceback and causes, which would keep the activations of a launch that did not fit in memory."""
    log.debug("a batch failed", exc_info=error)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
