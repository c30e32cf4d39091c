"""Vectors in the forms that clients ask for: base64, and fewer bits as Cohere's `embedding_types` name them.

    int8      each vector by its own largest component: round(127 · x / max|x|), from -127 to 127
    uint8     the same plus 128, from 1 to 255
    ubinary   one bit per component, 1 where it is positive; eight to a byte, the first in the highest bit
    binary    the same bytes minus 128, as signed ones

The binary forms are those of Cohere and of sentence-transformers' `quantize_embeddings`. For int8 these take the range of
each dimension over a sample of texts, which a server does not have: taken from the request, a vector would depend on its
neighbours. Scaled by itself it is a function of its text alone, uses all 8 bits, and keeps its direction, which is what
cosine compares; lengths are not comparable, so dot products of int8 vectors are not.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder import Vectors

#: Bits in the bytes of the binary forms.
_BYTE: Final = 8


def in_base64(row: Vectors) -> str:
    """One vector as little-endian float32, as OpenAI and Cohere have it."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")


def int8(vectors: Vectors) -> npt.NDArray[np.int8]:
    """(B, D); a row of zeros stays one."""
    sizes = np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(127.0 * vectors / np.where(sizes > 0, sizes, 1.0)).astype(np.int8)


def uint8(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """(B, D)."""
    return (int8(vectors).astype(np.int16) + 128).astype(np.uint8)


def ubinary(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """(B, D / 8).

    Raises:
        InvalidInput: D is no multiple of 8.
    """
    if vectors.shape[1] % _BYTE:
        raise InvalidInput(
            f"embedding_types: expected dimensions in eights for binary vectors, got {vectors.shape[1]}; set "
            "output_dimension, if the model declares another size",
            field="embedding_types",
        )
    return np.packbits(vectors > 0, axis=1)


def binary(vectors: Vectors) -> npt.NDArray[np.int8]:
    """(B, D / 8). Raises as `ubinary` does."""
    return (ubinary(vectors).astype(np.int16) - 128).astype(np.int8)


#: By Cohere's names.
QUANTIZED: Final[Mapping[str, Callable[[Vectors], npt.NDArray[Any]]]] = {
    "int8": int8,
    "uint8": uint8,
    "binary": binary,
    "ubinary": ubinary,
}
