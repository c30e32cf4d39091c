"""The start-up gate: does the packed pass give the same vectors as the model alone with one text at a time?

A few pinned texts of mixed and of equal lengths, one longer than common sliding windows, go through the model one by
one with transformers' own attention, then together through the candidate pass. Two laws must hold: equal vectors, and
no influence of neighbours (the candidate with one text alone gives what it gives in company).

The passes are tried in order, fastest first: packed with fused modules (small ones recorded, on CUDA), packed, padded,
texts of one length at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import torch

from gristmill_schemas.errors import InvalidInput, ModelUnavailable
from gristmill_worker.encoder.local.cpu.fusing import fusable
from gristmill_worker.encoder.local.cpu.fusing import fuse as fuse_for_cpu
from gristmill_worker.encoder.local.cuda.decoder import fuse as fuse_for_cuda
from gristmill_worker.encoder.local.forward import (
    AlikeForward,
    Forward,
    Ids,
    PackedForward,
    PaddedForward,
    StaticForward,
)
from gristmill_worker.encoder.local.load import Loaded
from gristmill_worker.encoder.local.replay import ReplayedForward
from gristmill_worker.encoder.local.sharing import may_write
from gristmill_worker.encoder.model.modules import WAY_OUT

log = logging.getLogger(__name__)
T = TypeVar("T")
F = TypeVar("F", bound=Forward)

#: Mixed lengths, two of them equal, and Chinese; the last is repeated to pass ModernBERT's window of 128 tokens.
PINNED_TEXTS: Final = (
    "Why do two vectors have to come from the same space?",
    "Gristmill",
    "The quick brown fox jumps over the lazy dog near the old mill by the river, where grain is ground into flour.",
    "The quick brown fox jumps over the lazy cat near the old mill by the river, where grain is ground into flour.",
    "用了优惠券但没减钱，应该怎么办？",
    "Texts of many lengths lie end to end in one row, and attention stays inside each of them. " * 9,
)
#: Largest cosine distance between a packed vector and the reference.
MAX_DISTANCE: Final = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 5e-3}
#: Largest cosine distance that neighbours may cause: rounding of other kernel shapes, nothing that means anything.
MAX_INFLUENCE: Final = {torch.float32: 1e-6, torch.bfloat16: 1e-3, torch.float16: 1e-3}


def reference_vectors(forward: Forward, texts: Sequence[Ids]) -> torch.Tensor:
    """float32 (B, D): each text alone through a pass that is known to be right."""
    return torch.cat([forward([ids]) for ids in texts])


def check(forward: Forward, texts: Sequence[Ids], reference: torch.Tensor, dtype: torch.dtype) -> str | None:
    """None if the pass is right, else what is wrong with it, in one line."""
    together = _tried(lambda: forward(texts))
    if isinstance(together, str):
        return together
    if (worst := cosine_distance(together, reference)) > MAX_DISTANCE[dtype]:
        return f"its vectors differ from one-by-one by {worst:.1e} in cosine (allowed: {MAX_DISTANCE[dtype]:.0e})"
    if (worst := cosine_distance(together, reference_vectors(forward, texts))) > MAX_INFLUENCE[dtype]:
        return f"neighbours change a vector by {worst:.1e} in cosine (allowed: {MAX_INFLUENCE[dtype]:.0e})"
    return None


def cosine_distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """Largest 1 - cosine over rows, in float64; infinite where a value is not finite."""
    a, b = (torch.nn.functional.normalize(x.double(), dim=-1) for x in (left, right))
    worst = float((1 - (a * b).sum(-1)).max())
    return worst if worst == worst else float("inf")


def _tried(call: Callable[[], T]) -> T | str:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # whatever a model raises on the packed path, padding is the answer
        return f"it raises {type(error).__name__}: {error}"


def choose_forward(loaded: Loaded, packed: bool | None = None) -> Forward:
    """Find the pass, changing the model's modules where that is part of it.

    Args:
        loaded: the model, as it was loaded.
        packed: None packs if the gate allows; True insists; False pads.

    Raises:
        InvalidInput: `packed=True`, and the gate refuses.
        ModelUnavailable: the model cannot encode even one short text.
    """
    pinned = [item.ids for item in loaded.tokenizer.tokenize(PINNED_TEXTS)]
    if isinstance(loaded.model, torch.nn.EmbeddingBag):
        table = StaticForward(loaded.model, loaded.device)
        _check_sense(loaded, _reference(loaded, table, pinned))
        return table
    own = loaded.own_attention
    reference = _reference(loaded, _padding(loaded, own), pinned)
    _check_sense(loaded, reference)
    if packed is False:
        return _padded(loaded, own, pinned, reference)
    candidate = _tried(lambda: PackedForward(loaded.model, loaded.info.pooling, loaded.device))
    problem = candidate if isinstance(candidate, str) else check(candidate, pinned, reference, loaded.dtype)
    if problem is None and not isinstance(candidate, str):
        return _replayed(loaded, _fused(loaded, candidate, pinned, reference), pinned, reference)
    if packed:
        raise InvalidInput(f"packed: {loaded.info.model} cannot be packed: {problem}")
    log.warning("%s runs in padded batches, since packed %s", loaded.info.model, problem)
    return _padded(loaded, own, pinned, reference)


def _reference(loaded: Loaded, forward: Forward, pinned: list[Ids]) -> torch.Tensor:
    try:
        return reference_vectors(forward, pinned)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise ModelUnavailable(
            f"{loaded.info.model}: {type(loaded.model).__name__} fails at a first text ({type(error).__name__}: {error}); "
            f"{WAY_OUT}"
        ) from error


def _check_sense(loaded: Loaded, reference: torch.Tensor) -> None:
    """Refuse a model whose vectors cannot mean anything, whatever in its files is the reason."""
    vectors, name = loaded.head(reference), loaded.info.model
    if not bool(torch.isfinite(vectors).all()):
        raise ModelUnavailable(
            f"{name}: its vectors of plain texts in {loaded.dtype} are not numbers: the weights are damaged (fetch them "
            "again), or too large for this number format (set dtype to bfloat16 or float32)"
        )
    if bool((vectors == vectors[0]).all()):
        raise ModelUnavailable(
            f"{name}: it gives {len(vectors)} different texts the same vector: the weights are damaged or a placeholder's; "
            "fetch them again, and compare their size or SHA-256 with the source's"
        )
    if vectors.shape[1] != loaded.info.dimensions:
        raise ModelUnavailable(
            f"{name}: by its files its vectors have {loaded.info.dimensions} dimensions, and they have {vectors.shape[1]}; "
            f"{WAY_OUT}"
        )


def _padding(loaded: Loaded, attention: str) -> PaddedForward:
    return PaddedForward(loaded.model, loaded.info.pooling, loaded.device, attention)


def _padded(loaded: Loaded, attention: str, pinned: list[Ids], reference: torch.Tensor) -> Forward:
    """Padded batches, or where padding itself changes vectors, batches of one length."""
    forward = _padding(loaded, attention)
    worst = cosine_distance(forward(pinned), reference)
    if worst <= MAX_DISTANCE[loaded.dtype]:
        return _fused(loaded, forward, pinned, reference)
    log.warning(
        "%s runs texts of one length at a time, since padding changes its vectors by %.1e in cosine",
        loaded.info.model,
        worst,
    )
    return _fused(loaded, AlikeForward(forward), pinned, reference)


def _replayed(loaded: Loaded, forward: PackedForward, pinned: list[Ids], reference: torch.Tensor) -> Forward:
    """The same pass, with small ones recorded where the device can replay them, unless that changes what it gives.

    A model that writes into itself while it runs could write where a recorded pass does not read; nor may two threads run
    it.
    """
    if loaded.device.type != "cuda" or may_write((loaded.model, loaded.head)):
        return forward
    replayed = _tried(lambda: ReplayedForward(forward, loaded.device))
    problem = replayed if isinstance(replayed, str) else check(replayed, pinned, reference, loaded.dtype)
    if problem is None and not isinstance(replayed, str):
        return replayed
    log.warning("%s starts the kernels of small batches one by one, since recorded %s", loaded.info.model, problem)
    return forward


def _fused(loaded: Loaded, forward: F, pinned: list[Ids], reference: torch.Tensor) -> F:
    """The same pass over fused modules, unless that changes what it gives."""
    if loaded.device.type == "cuda":
        undo = _tried(lambda: fuse_for_cuda(loaded.model))
    elif fusable(loaded.device, loaded.dtype):
        undo = _tried(lambda: fuse_for_cpu(loaded.model))
    else:
        return forward
    problem = undo if isinstance(undo, str) else check(forward, pinned, reference, loaded.dtype)
    if problem is not None:
        log.warning("%s runs without fused modules, since with them %s", loaded.info.model, problem)
        if not isinstance(undo, str):
            undo()
    return forward
