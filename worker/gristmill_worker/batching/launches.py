"""Launches that are under way: which is to be collected next, and whether there is room for another.

A server only starts when it is called: the model thread calls it, and takes results in order. So it is with an accelerator,
unless that lets queries by: then a thread waits for the results of bulk work and another launches queries, so that the model
thread waits for neither.

On a processor's cores the thread that calls computes. There as many threads call as launches pay off at once, and whatever
ends first is collected first. One launch that nothing else waits beside is `Encoder.encode`'s, which has all cores: the
model thread calls it for a query, and a thread of its own for bulk work, which may take seconds. One more thread is for a
query that finds the cores at bulk work: it shares one of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from gristmill_worker.encoder.base import Encoder, Pending, TokenizedText, Vectors

#: Launches of which it is known how long they took.
_REMEMBERED = 512

B = TypeVar("B")
_Result = Callable[[], Vectors]


@dataclass(slots=True)
class _Order:
    """What a thread is to do for a launch: all of it, or to wait for its result."""

    call: Callable[[], _Result]
    query: bool = False
    #: It has all cores.
    alone: bool = False
    future: Future[_Result] = field(default_factory=Future)
    #: Since when a thread is at it, monotonic seconds.
    since: float | None = None


_Orders = queue.SimpleQueue[_Order | None]


class Launches(Generic[B]):
    """Belongs to the model thread, but for `since` and `took_s`. A batch is whatever that thread makes of it."""

    def __init__(self, encoder: Encoder, ended: Callable[[], None]) -> None:
        """Start the threads, where threads launch.

        Args:
            encoder: what launches.
            ended: told by a thread that has computed a launch.
        """
        self._encoder, self._ended = encoder, ended
        self._on_threads, self._beside = encoder.limits.on_threads, encoder.limits.beside
        self._running: deque[tuple[B, _Result | _Order]] = deque()
        #: Seconds that the model thread took to launch bulk work.
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        #: Whose thread takes a query, and whose takes bulk work; and bulk work that has all cores.
        self._queries = self._bulk = _Orders()
        self._alone = _Orders()
        self._threads: list[_Orders] = []
        if self._on_threads:
            self._threads = [self._bulk] * (encoder.limits.in_flight + 1) + [self._alone]
        elif self._beside:
            self._bulk = _Orders()
            self._threads = [self._queries, self._bulk]
        for number, orders in enumerate(self._threads, 1):
            # Daemons: a launch that hangs keeps nobody from leaving.
            threading.Thread(target=self._serve, args=(orders,), name=f"gristmill-model-{number}", daemon=True).start()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def room(self) -> bool:
        """Whether another one of bulk work pays off."""
        if any(isinstance(each, _Order) and each.alone for _, each in self._running):
            return False
        running = len(self._running) - (self._queries_under_way() if self._beside else 0)
        return running < self._encoder.limits.in_flight

    @property
    def in_order(self) -> bool:
        """Whether results come in the order of launches, so that one is there when it is waited for."""
        return not self._threads

    @property
    def takes_query(self) -> bool:
        """Whether a query need not wait until something ends.

        In order it may always be launched, as one more. On threads it may if no other one is under way, however much bulk
        work is; those that come meanwhile go together.
        """
        return self.in_order or (self._on_threads and self.room) or not self._queries_under_way()

    def _queries_under_way(self) -> int:
        return sum(isinstance(each, _Order) and each.query for _, each in self._running)

    @property
    def at_once(self) -> int:
        """Batches that are computed side by side, so that a few should be cut alike."""
        return self._encoder.limits.in_flight if self._on_threads else 1

    def batches(self) -> list[B]:
        """What is under way, the oldest first."""
        return [batch for batch, _ in self._running]

    def start(self, batch: B, texts: Sequence[TokenizedText], *, query: bool, alone: bool) -> None:
        """Launch a batch.

        Args:
            batch: what `take` gives back.
            texts: of the batch, at least one.
            query: somebody waits for it.
            alone: nothing else waits to be launched.

        Raises:
            Whatever the encoder raises at once: then the batch is not under way.
        """
        if self.in_order:
            self._running.append((batch, self._launched(texts, query=query)))
        elif self._on_threads and alone and not self._running:
            if query:
                self._running.append((batch, self._encoded(texts)))
            else:
                self._order(batch, _Order(partial(self._encoded, texts), alone=True))
        elif self._on_threads:
            self._order(batch, _Order(partial(self._encoder.launch, texts), query))
        elif query:
            self._order(batch, _Order(lambda: _awaited(self._encoder.launch(texts)), query=True))
        else:
            # By this thread alone, so that there is one order of launches; only the result is waited for elsewhere.
            self._order(batch, _Order(partial(_awaited, self._launched(texts, query=False))))

    def _launched(self, texts: Sequence[TokenizedText], *, query: bool) -> _Result:
        began = time.perf_counter()
        result = self._encoder.launch(texts)
        # Where only one is under way at a time, what launches computes.
        if not query and self._encoder.limits.in_flight > 1:
            self._took.append(time.perf_counter() - began)
        return result

    @property
    def took_s(self) -> list[float]:
        """Seconds that the latest launches of bulk work took, the oldest first; none where they compute. For any thread.

        What computes them may have nothing meanwhile: on an accelerator they should take less than it takes for a batch.
        """
        return list(self._took)

    def _encoded(self, texts: Sequence[TokenizedText]) -> _Result:
        vectors = self._encoder.encode(texts)
        return lambda: vectors

    def _order(self, batch: B, order: _Order) -> None:
        self._running.append((batch, order))
        (self._alone if order.alone else self._queries if order.query else self._bulk).put(order)

    def due(self, *, more: bool) -> bool:
        """Whether `take` is to be called now.

        Args:
            more: there is something to be launched. In order, results are waited for where there is no room for it, or
                nothing; of threads, what has ended is taken.
        """
        if self._threads:
            return self._ended_at() is not None
        return bool(self._running) and not (more and self.room)

    def take(self, *, newest: bool = False) -> tuple[B, _Result]:
        """The next one to be collected, or the newest: under way no more. Its result is waited for by calling it."""
        at = -1 if newest else self._ended_at() or 0
        batch, result = self._running[at]
        del self._running[at]
        if isinstance(result, _Order):
            return batch, lambda: result.future.result()()
        return batch, result

    def clear(self) -> None:
        """Forget all of them."""
        self._running.clear()

    def since(self) -> float | None:
        """Since when threads have been at the oldest, monotonic seconds; None where they are at none. For any thread."""
        orders = [each for _, each in list(self._running) if isinstance(each, _Order)]
        return min((each.since for each in orders if each.since is not None and not each.future.done()), default=None)

    def close(self) -> None:
        """Let the threads go, when they have done what was started."""
        for orders in self._threads:
            orders.put(None)

    def _ended_at(self) -> int | None:
        """Where one is that nobody has to wait for."""
        for at, (_, result) in enumerate(self._running):
            if not isinstance(result, _Order) or result.future.done():
                return at
        return None

    def _serve(self, orders: _Orders) -> None:
        while (order := orders.get()) is not None:
            order.since = time.monotonic()
            try:
                order.future.set_result(order.call())
            except BaseException as error:  # noqa: BLE001  # whoever takes it judges
                order.future.set_exception(error)
            self._ended()
            del order


def _awaited(result: _Result) -> _Result:
    """Waits for a result. It is the model thread that calls it, which may have an encoder measure something."""
    if isinstance(result, Pending):
        result.wait()
    return result
