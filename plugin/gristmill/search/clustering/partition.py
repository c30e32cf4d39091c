"""Rows of unit length into groups: so many of them (K-means), or as tight as a threshold asks.

**Threshold.** The densest document first: whoever is at least so much like it, and in no group yet, is its group; then the
densest of the rest. So all of a group say what its centre says. Linking neighbours to neighbours (single linkage) would not
promise that: among 100,000 tickets there is always a chain of small steps, and one group that holds half of them. Average
linkage needs all distances at once, 40 GB for those. This takes two passes of products, tile by tile: time N² · D (100,000
of 384 numbers: two minutes on two cores), memory N bytes per row of a block, 25 MB for those. It is what
sentence-transformers calls community detection, without the lists of neighbours that are kept there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gristmill.extras import brought_by
from gristmill.search.clustering.members import Matrix

Labels = npt.NDArray[np.int64]

#: Rows that are compared with all others at once, and with so many of them in one product: 8 MB of float32.
_BLOCK, _TILE = 256, 8192
#: Identical texts have a cosine of 1 but for the last digits of float32.
_ROUNDING = 1e-5
#: Above so many rows K-means looks at samples of them (mini-batches): there the result hardly differs, and the time does.
_WHOLE_ROWS = 20_000
_SAMPLE = 4096
#: Fixed, so that the same documents give the same groups.
_SEED = 0
_STARTS = 10


def nearest_centres(vectors: Matrix, k: int, starts: int = _STARTS) -> Labels:
    """K-means on the sphere's surface: a label from 0 to k - 1 per row, of several starts the tightest.

    Args:
        vectors: float32 (N, D), of unit length.
        k: groups; fewer where there are fewer different rows.
        starts: begun anew so often, from other rows.

    Raises:
        NotInstalled: scikit-learn is missing.
    """
    with brought_by("eval", "K-means"):
        from sklearn.cluster import KMeans, MiniBatchKMeans
    k = min(k, len({row.tobytes() for row in vectors.round(4) + np.float32(0)}))
    if len(vectors) <= _WHOLE_ROWS:
        found = KMeans(k, n_init=starts, random_state=_SEED).fit(vectors)
    else:
        found = MiniBatchKMeans(k, batch_size=_SAMPLE, n_init=starts, random_state=_SEED).fit(vectors)
    return np.asarray(found.labels_, np.int64)


def within_reach(vectors: Matrix, threshold: float, progress: Callable[[int], object] = lambda done: None) -> Labels:
    """Groups around dense rows; -1 for rows that nothing is like.

    Args:
        vectors: float32 (N, D), of unit length.
        threshold: least cosine between a row and the one that its group is made around.
        progress: called with the number of rows compared so far.
    """
    near = _neighbours(vectors, threshold, progress)
    densest = np.argsort(-near, kind="stable")
    waiting = densest[near[densest] > 1]
    labels, groups = np.full(len(vectors), -1, np.int64), 0
    while len(waiting := waiting[labels[waiting] < 0]):
        block, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        for centre, alike in zip(block, _alike(vectors[block], vectors, threshold), strict=True):
            if labels[centre] < 0:
                labels[alike & (labels < 0)] = groups
                groups += 1
    return labels


def _neighbours(vectors: Matrix, threshold: float, progress: Callable[[int], object]) -> Labels:
    """How many rows are like each, itself included. Each pair is looked at once."""
    found = np.zeros(len(vectors), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        stop = min(start + _BLOCK, len(vectors))
        alike = _alike(vectors[start:stop], vectors[start:], threshold)
        found[start:stop] += alike.sum(axis=1)
        found[stop:] += alike[:, stop - start :].sum(axis=0)
        progress(stop)
    return found


def _alike(rows: Matrix, others: Matrix, threshold: float) -> npt.NDArray[np.bool_]:
    """Which of the others each row is like; bool (rows, others)."""
    found = np.empty((len(rows), len(others)), np.bool_)
    for start in range(0, len(others), _TILE):
        tile = others[start : start + _TILE]
        np.greater_equal(rows @ tile.T, threshold - _ROUNDING, out=found[:, start : start + len(tile)])
    return found
