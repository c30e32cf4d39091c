"""Rankings out of vectors at hand: one matrix product instead of a search per question.

    scores (Q, P) = queries (Q, D) · points (P, D)ᵀ,   a document's is its best point's

Exact: every point is looked at, so what a graph or quantization loses is not in it. 200 questions on 100,000 points of
1,024 dimensions are 20 GFLOP: a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gristmill.arguments import integer
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.measures import DEPTH
from gristmill.evaluation.rankings import Ranking
from gristmill.evaluation.stored_vectors import StoredVectors
from gristmill_schemas import Distance

Matrix = npt.NDArray[np.float32]

#: Scores that are held at once.
_SCORES = 32 * 1024 * 1024


class ExactSearch:
    """Ranks the documents of a collection for query vectors."""

    def __init__(self, stored: StoredVectors, dimensions: int | None = None) -> None:
        """Take vectors, or the first so many numbers of each, as Matryoshka models are made for.

        Args:
            stored: the points.
            dimensions: at most those that are stored; None: all.

        Raises:
            InvalidInput: there are not so many.
        """
        whole = stored.vectors.shape[1]
        self._cut = whole if dimensions is None else integer("dimensions", dimensions, 1, whole)
        self._distance = stored.spec.distance
        # Points of one document stand together, documents in the order of their ids: so equal scores have one order.
        order = np.argsort(np.array(stored.ids, dtype=object), kind="stable") if stored.ids else np.array([], int)
        names = [stored.ids[at] for at in order]
        self._starts = [at for at, name in enumerate(names) if at == 0 or name != names[at - 1]]
        self._documents = [names[at] for at in self._starts]
        self._places = {name: at for at, name in enumerate(self._documents)}
        self._points = self._prepared(stored.vectors[order])

    def _prepared(self, vectors: Matrix) -> Matrix:
        cut = vectors[:, : self._cut]
        if self._distance is not Distance.COSINE:
            return cut
        lengths = np.linalg.norm(cut, axis=1, keepdims=True)
        return np.asarray(cut / np.where(lengths == 0, 1, lengths), np.float32)

    def rankings(self, queries: Matrix, questions: Sequence[Question]) -> Iterator[Ranking]:
        """Of each question the ids of documents, best first, as far down as its figures need.

        Args:
            queries: float32 (Q, D), of the stored dimensions.
            questions: Q, which say how far that is.
        """
        step = max(1, _SCORES // max(1, len(self._points)))
        for start in range(0, len(queries), step):
            part = questions[start : start + step]
            for question, scores in zip(part, self._scores(self._prepared(queries[start : start + step])), strict=True):
                yield self._ranked(scores, question)

    def _ranked(self, scores: Matrix, question: Question) -> Ranking:
        """The first ten, and all down to the first right one. Equal scores keep the order of ids."""
        right = [scores[at] for each in question.expected if (at := self._places.get(each)) is not None]
        least = max(right, default=np.inf)
        tenth = np.partition(scores, -DEPTH)[-DEPTH] if len(scores) > DEPTH else -np.inf
        kept = np.flatnonzero(scores >= min(least, tenth))
        return tuple(self._documents[at] for at in kept[np.argsort(-scores[kept], kind="stable")])

    def _scores(self, queries: Matrix) -> Matrix:
        if not self._documents:
            return np.empty((len(queries), 0), np.float32)
        scores = queries @ self._points.T
        if self._distance is Distance.EUCLID:
            scores = 2 * scores - (self._points**2).sum(axis=1)  # nearest first; a query's own length changes no order
        return np.asarray(np.maximum.reduceat(scores, self._starts, axis=1))
