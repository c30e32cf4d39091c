"""The canary: decides whether a batch failed because of its texts or because of what encodes them.

Two short texts are encoded at the start, while the encoder is known to be well; that also warms it up. When a batch fails
later, they are encoded again: if that works and the vectors are those of the start, the encoder is well, and the batch's
texts are to blame. Costs one small launch per failed batch, none otherwise.

Some encoders break without raising. Vectors that mean nothing are found by looking at each batch, at the cost of a few
passes over it; a false alarm costs a look at the canary and smaller launches, nobody's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from gristmill_schemas.errors import DeviceFailed, Unavailable
from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors
from gristmill_worker.vital_threads import ENDINGS

#: Short, and of two scripts: they have to fit wherever anything fits.
CANARY_TEXTS: Final = ("warm up", "预热")
#: Smallest cosine with the vectors of the start. Kernels of other shapes round differently; a sick one is far off.
MIN_COSINE: Final = 0.99
#: Shorter vectors may well have equal components, or be those of two texts, by chance.
_MIN_DIMENSIONS: Final = 4
#: Differences below this share of the largest component are rounding.
_ROUNDING: Final = 1e-6


class Canary:
    """The two texts and their vectors. Belongs to the thread that launches."""

    def __init__(self, encoder: Encoder) -> None:
        """Encode the texts for the first time.

        Raises:
            DeviceFailed: the encoder is sick from the start.
            Unavailable: its server is away.
        """
        self._encoder = encoder
        self._batch = encoder.tokenize(CANARY_TEXTS)
        self._known: Vectors | None = None
        if (problem := self.look()) is not None:
            raise DeviceFailed(f"{encoder.info.model} on {encoder.device} cannot encode its first texts: {problem}")

    def look(self) -> str | None:
        """Encode the texts again: None if the encoder is well, else what is wrong with it, in one line.

        Raises:
            Unavailable: its server is away, which says nothing about texts.
            KeyboardInterrupt, SystemExit: whoever started this process has it end. The first look is its main thread's.
        """
        try:
            vectors = self._encoder.launch(self._batch)()
        except (*ENDINGS, Unavailable):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of native code is no Exception
            return f"{type(error).__name__}: {error}"
        if (problem := nonsense(self._batch, vectors, self._encoder.info.dimensions)) is not None:
            return problem
        if self._known is None:
            self._known = vectors
        if (worst := _least_cosine(vectors, self._known)) < MIN_COSINE:
            return f"a text's vector is not what it was at the start (cosine {worst:.3f})"
        return None


def nonsense(batch: Sequence[TokenizedText], vectors: Vectors, dimensions: int) -> str | None:
    """None if vectors may be those of the batch, else why they mean nothing, in one line.

    Args:
        batch: B texts.
        vectors: what an encoder gave for them; right ones are float32 (B, D), B at least 1.
        dimensions: the model's D.
    """
    if vectors.shape != (len(batch), dimensions):
        return f"the model gave an array of shape {vectors.shape} for {len(batch)} texts of {dimensions} dimensions"
    highest, lowest = vectors.max(axis=1), vectors.min(axis=1)
    if not (np.isfinite(highest) & np.isfinite(lowest)).all():
        return "the model gave a vector with NaN or infinity"
    sizes = np.maximum(np.abs(highest), np.abs(lowest))
    if not sizes.all():
        return "the model gave a vector of zeros"
    if dimensions < _MIN_DIMENSIONS:
        return None
    if (highest - lowest <= _ROUNDING * sizes).any():
        return "the model gave a vector whose components are all equal"
    if len(batch) > 1 and _all_alike(vectors, float(sizes.max())) and len({_input_of(item) for item in batch}) > 1:
        return f"the model gave one and the same vector for {len(batch)} texts"
    return None


def _all_alike(vectors: Vectors, size: float) -> bool:
    near = _ROUNDING * size
    # The first two nearly always settle it.
    return bool((np.abs(vectors[1] - vectors[0]) <= near).all() and (np.abs(vectors - vectors[0]) <= near).all())


def _input_of(item: TokenizedText) -> bytes:
    """What the model sees of a text: two texts may be cut to the same tokens."""
    return item.ids.tobytes() if len(item.ids) else item.text.encode("utf-8", "surrogatepass")


def same_input(one: TokenizedText, other: TokenizedText) -> bool:
    """Whether a model sees no difference between two texts."""
    return _input_of(one) == _input_of(other)


def _least_cosine(vectors: Vectors, known: Vectors) -> float:
    left, right = (each.astype(np.float64) for each in (vectors, known))
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / lengths).min())
