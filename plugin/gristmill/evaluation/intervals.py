"""How sure a figure is: intervals of means over questions, and of differences between two rankings of the same questions.

Shares (Top-1, Recall@k) have Wilson's score interval, which holds for few questions and near 0 and 1; means (MRR, nDCG, and
every difference) the bootstrap over questions, bias-corrected and accelerated (BCa), 9,999 resamples, seeded. Whether two
rankings differ is tested by randomisation: under the null hypothesis each question's difference may as well have the other
sign (Smucker, Allan and Carterette, CIKM 2007). All of it is scipy's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gristmill.evaluation.measures import SHARES, Values
from gristmill.extras import brought_by

CONFIDENCE = 0.95
_RESAMPLES, _SEED = 9_999, 20_260_301


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions, and between what it may lie with other questions of the same kind."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """The mean of what one ranking has more than another, question by question."""

    #: Two-sided, of the paired randomisation test.
    p_value: float


def interval(figure: str, values: Values) -> Interval:
    """A figure with its 95 % interval.

    Args:
        figure: its name, which says whether it is a share.
        values: float64 (questions,), at least one.
    """
    if figure in SHARES or np.ptp(values) == 0:
        # Of equal values no resample tells anything: 5 of 5 right is no certainty.
        return Interval(float(values.mean()), *_wilson(values))
    return Interval(float(values.mean()), *_bootstrapped(values))


def share(values: Values) -> Interval:
    """A share with its 95 % interval; values are 0 or 1, float64 (n,), at least one."""
    return Interval(float(values.mean()), *_wilson(values))


def difference(one: Values, other: Values) -> Difference:
    """What `one` has more than `other`, on the same questions, each float64 (questions,)."""
    more = one - other
    if not more.any():
        return Difference(0.0, 0.0, 0.0, 1.0)
    bounds = _bootstrapped(more) if np.ptp(more) else (float(more[0]), float(more[0]))
    return Difference(float(more.mean()), *bounds, _randomised(more))


def _stats() -> Any:
    with brought_by("eval", "measuring"):
        import scipy.stats
    return scipy.stats


def _wilson(values: Values) -> tuple[float, float]:
    right = int(np.rint(values.sum()))
    found = _stats().binomtest(right, len(values)).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _bootstrapped(values: Values) -> tuple[float, float]:
    def bounds(method: str) -> Any:
        return stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=CONFIDENCE,
            method=method,
            vectorized=True,
            rng=np.random.default_rng(_SEED),
        ).confidence_interval

    stats = _stats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a degenerate distribution is told by NaN
        found = bounds("BCa")
        if np.isnan(found.low) or np.isnan(found.high):
            found = bounds("percentile")
    return float(found.low), float(found.high)


def _randomised(more: Values) -> float:
    found = _stats().permutation_test(
        (more,),
        lambda each, axis: each.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=1_000,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests at once, in their order, by Holm's step-down: for the chance that any of them errs."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    found, least = [0.0] * len(p_values), 0.0
    for passed, at in enumerate(order):
        least = max(least, min(1.0, p_values[at] * (len(p_values) - passed)))
        found[at] = least
    return found
