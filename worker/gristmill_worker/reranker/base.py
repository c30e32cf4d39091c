"""A reranker behind a narrow interface: one query and its documents become scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import WaitTimeout

#: float32, shape (N, 2), one row per document: its score from 0 to 1, and 1 where all of it was read, else 0.
Scores = npt.NDArray[np.float32]
#: Whether nobody waits for the scores any more.
Expired = Callable[[], bool]


class Reranker(Protocol):
    """A loaded cross-encoder. Any thread may call `score`."""

    @property
    def info(self) -> EncoderInfo:
        """What the model says about itself; announced like that of an encoder."""

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda:0`, `remote`."""

    @property
    def sick(self) -> str | None:
        """Why nothing is scored any more in this process; None while the device is well."""

    @property
    def busy_since(self) -> float | None:
        """Since when one batch has been on the model (monotonic seconds), if any is."""

    def score(
        self, query: str, documents: Sequence[str], instruction: str | None = None, expired: Expired = lambda: False
    ) -> Scores:
        """How well each document answers the query.

        Args:
            query: read whole.
            documents: their ends are cut off where the pair is longer than the window.
            instruction: what the search is for; None takes the model's own. Models that take none leave it out.
            expired: asked between batches.

        Returns:
            One row per document, in order; (0, 2) for none.

        Raises:
            EncodingFailed: the query leaves no room for a document, or a pair cannot be scored.
            WaitTimeout: it has expired.
            DeviceFailed, Unavailable, ShuttingDown: as a batcher's callers get them.
        """

    def status(self) -> dict[str, Any]:
        """What it is and does, for heartbeats and `gristmill doctor`."""

    def close(self) -> None:
        """Stop; whoever waits gets `ShuttingDown`."""


def scored(scores: Sequence[float] | npt.NDArray[np.float64], whole: Sequence[bool]) -> Scores:
    """Scores and whether each document was read to its end, as one array."""
    return np.column_stack([np.asarray(scores, dtype=np.float64), np.asarray(whole, dtype=np.float64)]).astype(
        np.float32
    )


def check_time(expired: Expired) -> None:
    """Raise WaitTimeout where nobody waits any more."""
    if expired():
        raise WaitTimeout("the time for reranking was over before all documents were scored")
