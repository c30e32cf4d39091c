"""CPU: who computes on how many cores.

A launch spread over all cores waits at the end of each of its hundreds of operations until the slowest core is there; so
does it for a core that a neighbour uses for a moment. Launches on a core each wait for nobody, and do more together as
soon as there are several. Tokens/s on two cores (AMD EPYC), medians of five interleaved passes over 200 mixed texts at the
better budget of each:

                                    one core    all cores, one launch    a core each, two launches
    e5-small, bfloat16                 3,400                    6,320                        6,670
    e5-small, float32, AVX2            1,800                    3,060                        3,460
    Qwen3's shape, 6 layers, bfloat16    990                    1,890                        1,820

One text alone is answered sooner by all cores: a query of 18 tokens in 7.8 ms instead of 10.5 by e5-small.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch

from gristmill_worker.encoder.local.sharing import may_write

#: Each needs Python's lock for some hundredths of its time; beyond this they would wait for it.
_MOST_LAUNCHES: Final = 8

#: Torch's threads without launches, once for each launch of any encoder in this process that is under way.
_under_way: Final[list[int]] = []
_lock = threading.Lock()


def torch_threads() -> int:
    """Threads that torch uses where no launch has changed it. A thread that is new to torch takes over what one has set."""
    with _lock:
        return max(torch.get_num_threads(), *_under_way, 1)


class Cores:
    """The cores that torch uses, shared by launches or taken by one. Any thread may take some."""

    def __init__(self, launches: int = 1) -> None:
        """Share them.

        Args:
            launches: that run at once, each on as many cores as the others, and a query's beside them; with 1, torch's
                threads are left as they are.
        """
        self.launches = launches
        self._places = launches + 1
        self._all = torch_threads()
        self._running = 0
        #: How often one was begun beside as many as there are.
        self._crowds = 0
        self._changed = threading.Condition()

    @contextmanager
    def share(self) -> Iterator[Callable[[], bool]]:
        """Compute on a launch's share of the cores, when one is free. A query makes one more than there are.

        Gives a call that says whether there has been one more meanwhile, so that some had less than their share.
        """
        before = self._crowds
        with self._taken(1, self._all // self.launches):
            yield lambda: self._crowds > before

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute on all of them, when all are free but for a query's share: one query after the other may go on beside."""
        with self._taken(self.launches, self._all):
            yield

    @contextmanager
    def _taken(self, shares: int, threads: int) -> Iterator[None]:
        if self.launches == 1:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._running + shares <= self._places)
            self._running += shares
            self._crowds += self._running > self.launches
        with _lock:
            _under_way.append(self._all)
        try:
            torch.set_num_threads(threads)
            yield
        finally:
            with _lock:
                _under_way.remove(self._all)
                if not _under_way:
                    # Parts of torch know one number for the whole process, which may be an application's.
                    torch.set_num_threads(self._all)
            with self._changed:
                self._running -= shares
                self._changed.notify_all()


def launches_at_once(parts: Sequence[Any], device: torch.device, *, packed: bool) -> int:
    """How many launches pay off at once: one per core where a model can be shared, one where it cannot.

    Args:
        parts: transformers' model, and its head.
        device: where it is.
        packed: the pass. Padding is for models that are ours in nothing, so nobody knows whether they write into themselves.
    """
    if device.type != "cpu" or not packed or may_write(parts):
        return 1
    threads = torch_threads()
    most = min(threads, _MOST_LAUNCHES)
    # Of 12 cores, six launches of two use all, and eight of one do not.
    return max(range((most + 1) // 2, most + 1), key=lambda launches: (threads // launches * launches, launches))
