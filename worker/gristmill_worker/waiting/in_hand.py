"""What a worker has in hand that its model has not encoded yet, in seconds of work; and how much that should be.

Whatever is in hand is encoded here, however late others fall idle. So a worker takes no more than a few seconds of work,
and where several serve a model ever less as the queue runs dry: nobody then works alone for long at the end. A parcel that
is too long a piece of what is left goes back in parts (`parts`): guided self-scheduling (Polychronopoulos and Kuck, 1987).

Seconds are by the tokens that were estimated when the documents came in, corrected by what the model has read of earlier
ones, and the rate that the model has shown.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gristmill.ledger import Claim
from gristmill_schemas import Parcel

#: Seconds of work that a worker takes in hand; and that it does when little is left for all of them, in which one parcel
#: is read and another written.
_MOST_S, _LEAST_S = 2.0, 0.3
#: Parcels that it takes before it knows how long they take.
_UNMEASURED = 4
#: Part of what is left for each worker that one of them takes in hand, and that one parcel may be.
_IN_HAND, _IN_A_PARCEL = 1 / 2, 1 / 3
#: Parcels that take less are never cut: each costs milliseconds, whatever it holds.
_WORTH_CUTTING_S = 0.25
#: Seconds for which a parcel has just come.
_JUST_COME_S = 0.1
#: Parts into which a parcel is cut at once. They are cut again if they turn out too long when their turn comes.
_MOST_PARTS = 4
#: Longest time for which a parcel that has not come to the model yet counts: it may wait for something else.
_ON_THE_WAY_S = 1.0
#: Estimated tokens after which what was read before counts half.
_HALF_TOKENS = 1_000_000


@dataclass(slots=True)
class _Held:
    tokens: int
    documents: int
    since: float
    is_ready: bool = False
    #: Documents that have their vectors, and the tokens that the model has read of them.
    encoded: int = 0
    read: int = 0


class InHand:
    """One per engine, shared by its task threads and the model's."""

    def __init__(
        self,
        tokens_per_s: Callable[[], float | None],
        workers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is in hand.

        Args:
            tokens_per_s: of this worker's model; None before that was measured.
            workers: how many serve the model, this one included.
            clock: seconds.
        """
        self._tokens_per_s = tokens_per_s
        self._workers = workers
        self._clock = clock
        self._lock = threading.Lock()
        #: By the claim's token.
        self._held: dict[str, _Held] = {}
        self._latest = 0
        self._estimated, self._read = 1.0, 1.0
        #: Seconds of work for each worker that waited when this was last looked at, and when that was.
        self._left: tuple[float, float] | None = None

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """The claim is in hand while the block runs."""
        held = _Held(claim.parcel.tokens, len(claim.parcel), self._clock())
        with self._lock:
            self._held[claim.token] = held
            self._latest = held.tokens
        try:
            yield
        finally:
            with self._lock:
                del self._held[claim.token]
                if held.read and held.encoded >= held.documents:
                    fading = 0.5 ** (held.tokens / _HALF_TOKENS)
                    self._estimated = self._estimated * fading + held.tokens
                    self._read = self._read * fading + held.read

    def ready(self, claim: Claim) -> None:
        """Nothing of a claim is waited for any more but the model."""
        if (held := self._held.get(claim.token)) is not None:
            held.is_ready = True

    def encoded(self, claim: Claim, tokens: int) -> None:
        """One more document of a claim, of so many tokens, has all its vectors."""
        if (held := self._held.get(claim.token)) is not None:
            held.encoded += 1
            held.read += tokens

    def has_room(self, threads: int, at_once: int) -> bool:
        """Whether another parcel makes sense beside those in hand.

        Args:
            threads: at work for this model. Those without a claim are about to have one, like the last.
            at_once: launches that pay off at once: so many parcels make sense, however long they take.
        """
        rate = self._tokens_per_s()
        if rate is None:
            return threads < max(_UNMEASURED, at_once)
        oldest = self._clock() - _ON_THE_WAY_S
        with self._lock:
            coming = max(0, threads - len(self._held))
            left = [
                each.tokens * (1 - each.encoded / each.documents)
                for each in self._held.values()
                if each.encoded < each.documents and (each.is_ready or each.since > oldest)
            ]
            tokens = coming * self._latest + sum(left)
        return coming + len(left) < at_once or self._seconds(tokens, rate) < self._most_s()

    def _most_s(self) -> float:
        if self._workers() < 2 or self._left is None:
            return _MOST_S
        left_s, at = self._left
        return min(_MOST_S, max(_LEAST_S, _IN_HAND * (left_s - (self._clock() - at))))

    def _seconds(self, tokens: float, rate: float) -> float:
        return tokens * self._read / self._estimated / rate

    def may_be_long(self, claim: Claim) -> bool:
        """Whether others serve the model, and a parcel takes so long that it matters who has it when little is left.

        One that has just come may be the first of many: who has nothing else to do begins with it.
        """
        rate = self._tokens_per_s()
        if rate is None or self._workers() < 2 or len(claim.parcel) < 2:
            return False
        if claim.waited_s < _JUST_COME_S and not self._held:
            return False
        return self._seconds(claim.parcel.tokens, rate) > _WORTH_CUTTING_S

    def parts(self, parcel: Parcel, waiting_tokens: float) -> int:
        """How many parts a parcel should come in; 1 where it is short enough.

        Args:
            parcel: that has just been claimed.
            waiting_tokens: estimated, of what nobody has claimed of this model's.
        """
        rate = self._tokens_per_s()
        if rate is None:
            return 1
        left_s = self._seconds(waiting_tokens + parcel.tokens, rate) / max(1, self._workers())
        self._left = left_s, self._clock()
        longest_s = max(_WORTH_CUTTING_S, _IN_A_PARCEL * left_s)
        return min(_MOST_PARTS, len(parcel), math.ceil(self._seconds(parcel.tokens, rate) / longest_s))
