"""Who waits for what: a caller's texts, their rows as they come, and the batches in which texts of many callers travel.

Callers hand texts in and hold a future; the model thread fills rows and resolves it, once. Whatever comes for a caller who
was answered already is dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_worker.encoder.base import TokenizedText, Vectors

#: One row of a result: float32 (D,), or why there is none: the text's own fault, or a server that is away for now.
Row = npt.NDArray[np.float32] | EncodingFailed | Unavailable


class Lane(StrEnum):
    """Who goes first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


#: Told by the model's thread, text by text, which of a caller's texts has its vector; must neither raise nor wait.
Encoded = Callable[[int], None]
#: Told by the model's thread when the first of a caller's texts is launched; must neither raise nor wait.
Launched = Callable[[], None]


class Submission:
    """One caller's texts; resolves its future when the last row is there."""

    def __init__(self, size: int, lane: Lane, encoded: Encoded | None, launched: Launched | None) -> None:
        self.lane = lane
        self.future: Future[list[Row]] = Future()
        self._encoded, self._launched = encoded, launched
        self._rows: list[Row | None] = [None] * size
        self._missing = size

    def launch(self) -> None:
        """One of its texts is about to be launched."""
        if self._launched is not None:
            told, self._launched = self._launched, None
            told()

    def put(self, index: int, row: Row) -> None:
        """The row of a text; what came for it first stays."""
        if self._rows[index] is not None:
            return
        self._rows[index] = row
        self._missing -= 1
        if self._encoded is not None and isinstance(row, np.ndarray):
            self._encoded(index)
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
        """Whether any row is still wanted: some are missing, and the caller has not cancelled the future."""
        return self._missing > 0 and not self.future.cancelled()


@dataclass(slots=True)
class Entry:
    """A text on its way, and whose it is."""

    text: TokenizedText
    submission: Submission
    index: int


Batch = list[Entry]


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


def wanted(batch: Batch) -> Batch:
    """Without the texts of callers who were told to wait, or have gone."""
    return [entry for entry in batch if entry.submission.open]


def interactive(batch: Batch) -> bool:
    """Whether it is of queries: no batch is of both lanes."""
    return batch[0].submission.lane is Lane.INTERACTIVE


def halves(batch: Batch) -> list[Batch]:
    """Both halves of a batch of several texts."""
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]


def step_back(batch: Batch, away: Unavailable) -> None:
    """Have the callers of a batch wait for a server, and hand in again what has no vector."""
    for submission in {entry.submission for entry in batch}:
        submission.give_up(away)


def fail(entries: Sequence[Entry], error: Exception) -> None:
    """Give their callers nothing but this error."""
    for submission in {entry.submission for entry in entries}:
        # Whoever comes first: `close` and the model thread may meet at one caller, and a suspect stays one.
        with contextlib.suppress(InvalidStateError):
            submission.future.set_exception(error)
