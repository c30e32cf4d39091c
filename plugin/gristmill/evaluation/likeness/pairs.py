"""Pairs that say the same or do not, by the cosine of their vectors: how well a threshold tells them apart.

Accuracy is of pairs that the threshold was not chosen on: ten folds, drawn so that each has both kinds alike (stratified,
seeded), and each fold is judged by the threshold that is best on the other nine. The threshold that is told at the end, for
use elsewhere, is the one that is best on all of them. AUC needs none: how often a pair that says the same has the higher
cosine. Its interval is bootstrapped over both kinds apart, 2,000 resamples, seeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gristmill.evaluation.intervals import CONFIDENCE, Interval, share
from gristmill.evaluation.likeness.clusters import of_unit_length
from gristmill.evaluation.likeness.texts import Pair
from gristmill.extras import brought_by

Scores = npt.NDArray[np.float64]
Same = npt.NDArray[np.bool_]

_FOLDS = 10
_RESAMPLES, _SEED = 2_000, 20_260_301


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """A pair, its cosine, and what was said of it by a threshold that had not seen it."""

    pair: Pair
    cosine: float
    said_same: bool

    @property
    def right(self) -> bool:
        """Whether that is so."""
        return self.said_same == self.pair.same


@dataclass(frozen=True, slots=True)
class Pairs:
    """How well vectors tell what says the same from what does not."""

    judged: tuple[JudgedPair, ...]
    #: The best one for all pairs: at this cosine and above they are the same.
    threshold: float
    #: Lowest and highest of those that the folds were judged by.
    thresholds: tuple[float, float]
    accuracy: Interval
    auc: Interval

    @property
    def wrong(self) -> list[JudgedPair]:
        """Those it gets wrong, the clearest mistake first."""
        return sorted(
            (each for each in self.judged if not each.right), key=lambda each: -abs(each.cosine - self.threshold)
        )

    @property
    def kinds(self) -> dict[str, tuple[int, float]]:
        """Of each kind of pair how many there are, and the share that is right."""
        by_kind: dict[str, list[bool]] = {}
        for each in self.judged:
            by_kind.setdefault(each.pair.kind, []).append(each.right)
        return {kind: (len(right), sum(right) / len(right)) for kind, right in by_kind.items() if kind}


def judge_pairs(pairs: Sequence[Pair], a: npt.ArrayLike, b: npt.ArrayLike) -> Pairs:
    """Tell pairs that say the same from others, by the cosines of their vectors.

    Args:
        pairs: at least two of each kind.
        a: (n, D), vectors of the first texts.
        b: (n, D), of the second ones.

    Raises:
        InvalidInput: vectors are not one per text.
        NotInstalled: the extra `eval` is missing.
    """
    cosines = np.einsum("nd,nd->n", of_unit_length(a, len(pairs)), of_unit_length(b, len(pairs))).astype(np.float64)
    same = np.array([each.same for each in pairs])
    thresholds = _held_out(cosines, same)
    said = cosines >= thresholds
    return Pairs(
        tuple(JudgedPair(*each) for each in zip(pairs, cosines.tolist(), said.tolist(), strict=True)),
        best_threshold(cosines, same),
        (float(thresholds.min()), float(thresholds.max())),
        share((said == same).astype(np.float64)),
        _auc(cosines, same),
    )


def best_threshold(scores: Scores, same: Same) -> float:
    """The score from which on most pairs are judged rightly, halfway to the next lower one; of several the middle one."""
    order = np.argsort(scores)
    ordered, truth = scores[order], same[order]
    # Pairs from place n on are said to be the same: right are the different ones below it and the same ones from it on.
    right = np.concatenate([[0], np.cumsum(~truth)]) + np.concatenate([np.cumsum(truth[::-1])[::-1], [0]])
    edges = np.concatenate([[ordered[0]], (ordered[:-1] + ordered[1:]) / 2, [np.nextafter(ordered[-1], np.inf)]])
    possible = np.concatenate([[True], ordered[:-1] < ordered[1:], [True]])
    best = np.flatnonzero(possible & (right == right[possible].max()))
    return float(edges[best[len(best) // 2]])


def _held_out(scores: Scores, same: Same) -> Scores:
    """For each pair the threshold that is best on folds which it is not in."""
    with brought_by("eval", "folds"):
        from sklearn.model_selection import StratifiedKFold
    folds = StratifiedKFold(min(_FOLDS, int(same.sum()), int((~same).sum())), shuffle=True, random_state=_SEED)
    found = np.empty(len(scores))
    for seen, unseen in folds.split(scores[:, None], same):
        found[unseen] = best_threshold(scores[seen], same[seen])
    return found


def _auc(scores: Scores, same: Same) -> Interval:
    random = np.random.default_rng(_SEED)
    drawn = [
        _ranked_above(random.choice(scores[same], same.sum()), random.choice(scores[~same], (~same).sum()))
        for _ in range(_RESAMPLES)
    ]
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(_ranked_above(scores[same], scores[~same]), float(low), float(high))


def _ranked_above(higher: Scores, lower: Scores) -> float:
    """Share of all pairings in which the first is higher; a draw counts half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / 2 / len(ordered))
