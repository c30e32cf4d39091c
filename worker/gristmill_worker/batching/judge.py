"""Whose fault is it, when a batch fails?

    the server's    it is away: the callers of the batch get `Unavailable` at once for every text without a vector, and hand
                    those in again when they have waited
    the budget's    out of memory halves it (see `budget`) and the batch, and what waits is planned anew
    the text's      the canary (see `canary`) is well: the batch is halved until the culprit is alone, which costs at most
                    about 2k·log2(n) extra launches and as many looks at the canary for k culprits among n texts; every other
                    text still gets its vector
    the device's    the canary is not: nobody's text is blamed, everybody gets `DeviceFailed`, and nothing is taken any more

Nothing is done here: the batcher carries out what was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, Unavailable
from gristmill_worker.batching.canary import Canary
from gristmill_worker.encoder.base import REMOTE, Encoder, TokenizedText


@dataclass(frozen=True, slots=True)
class Away:
    """The server's: whoever waits is to wait for it."""

    error: Unavailable


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The budget's: smaller batches may fit."""


@dataclass(frozen=True, slots=True)
class OneOfThem:
    """A text's, and there are several: halves of the batch show which."""


@dataclass(frozen=True, slots=True)
class Guilty:
    """Of the one text that the batch holds: its row."""

    error: EncodingFailed


@dataclass(frozen=True, slots=True)
class Sick:
    """The device's."""

    reason: str
    #: Whether a text of the batch, or of what else is under way, may have done it.
    suspect: bool


@dataclass(frozen=True, slots=True)
class Unfounded:
    """Nobody's: vectors that were in doubt are right."""


Verdict = Away | TooLarge | OneOfThem | Guilty | Sick | Unfounded


class Judge:
    """Belongs to the model thread."""

    def __init__(self, encoder: Encoder) -> None:
        """Meet the canary, which warms the encoder up.

        Raises:
            DeviceFailed: the encoder is sick from the start.
            Unavailable: its server is away.
        """
        self._encoder = encoder
        self._canary = Canary(encoder)
        #: Longest text that has been encoded, in tokens: what fitted once is not too long for this device.
        self._longest = 0

    def well(self, texts: Sequence[TokenizedText]) -> None:
        """These, at least one, have their vectors."""
        self._longest = max(self._longest, *(text.n_tokens for text in texts))

    def of(self, texts: Sequence[TokenizedText], error: BaseException, *, doubted: bool = False) -> Verdict:
        """Judge a launch.

        Args:
            texts: of the batch, at least one.
            error: that it ended with.
            doubted: it gave vectors, which the error is about.
        """
        if isinstance(error, Unavailable):
            return Away(error)
        if isinstance(error, AcceleratorOutOfMemory) and len(texts) > 1:
            return TooLarge()
        try:
            problem = self._canary.look()
        except Unavailable as away:
            return Away(away)
        if problem is not None:
            return self._of_encoder(f"{type(error).__name__}: {error}; and then the canary: {problem}")
        return Unfounded() if doubted else self._of_texts(texts, error)

    def _of_texts(self, texts: Sequence[TokenizedText], error: BaseException) -> Verdict:
        if len(texts) > 1:
            return OneOfThem()
        if not isinstance(error, AcceleratorOutOfMemory):
            return Guilty(
                error if isinstance(error, EncodingFailed) else EncodingFailed(f"{type(error).__name__}: {error}")
            )
        if (length := texts[0].n_tokens) <= self._longest:
            # Not as a suspect: its like has been encoded before, so something else holds the memory.
            reason = f"no memory left for a text of {length} tokens, though one of {self._longest} had room"
            return Sick(reason, suspect=False)
        reason = f"a text of {length} tokens does not fit into the memory of {self._encoder.device}, even alone"
        return Guilty(AcceleratorOutOfMemory(reason))

    def _of_encoder(self, reason: str) -> Verdict:
        model = self._encoder.info.model
        if self._encoder.device == REMOTE:
            return Away(Unavailable(f"{model}: its server answers nonsense, or refuses everything: {reason}"))
        return Sick(f"{model} on {self._encoder.device} is sick: {reason}", suspect=True)
