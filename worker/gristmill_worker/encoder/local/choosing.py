"""Which forward pass a loaded model runs: the fastest one that the parity gate finds right.

Tried in order: packed with fused modules (CPU), packed, padded. The reference is computed first, by the untouched model
with transformers' own attention, one text at a time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import EncodingFailed
from gristmill_worker.encoder.local.cpu_fusing import fusable, fuse
from gristmill_worker.encoder.local.forward import Forward, Ids, PackedForward, PaddedForward
from gristmill_worker.encoder.local.parity import PINNED_TEXTS, check, reference_vectors
from gristmill_worker.encoder.local.tokenizing import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, before anything is decided about how to run it."""

    model: Any
    tokenizer: Tokenizer
    info: EncoderInfo
    device: torch.device
    dtype: torch.dtype


def choose_forward(loaded: Loaded, packed: bool | None = None) -> Forward:
    """Find the pass, changing the model's modules where that is part of it.

    Args:
        loaded: the model.
        packed: None packs if the gate allows; True insists; False pads.

    Raises:
        EncodingFailed: `packed=True`, and the gate refuses.
    """
    pinned = [item.ids for item in loaded.tokenizer.tokenize(PINNED_TEXTS)]
    reference = reference_vectors(_padded(loaded), pinned)
    if packed is False:
        return _fused(loaded, _padded(loaded), pinned, reference)
    candidate = PackedForward(loaded.model, loaded.info.pooling, loaded.device)
    problem = check(candidate, pinned, reference, loaded.dtype)
    if problem is None:
        return _fused(loaded, candidate, pinned, reference)
    if packed:
        raise EncodingFailed(f"{loaded.info.model} cannot be packed: {problem}")
    log.warning("%s runs in padded batches, since packed %s", loaded.info.model, problem)
    return _fused(loaded, _padded(loaded), pinned, reference)


def _padded(loaded: Loaded) -> PaddedForward:
    return PaddedForward(loaded.model, loaded.info.pooling, loaded.device)


def _fused(loaded: Loaded, forward: Forward, pinned: list[Ids], reference: torch.Tensor) -> Forward:
    """The same pass over fused modules, unless that changes what it gives."""
    if not fusable(loaded.device, loaded.dtype):
        return forward
    undo = fuse(loaded.model)
    if (problem := check(forward, pinned, reference, loaded.dtype)) is not None:
        log.warning("%s runs without fused modules, since with them %s", loaded.info.model, problem)
        undo()
    return forward
