"""CUDA: whose kernels run between a decoder's products. Triton's, where they compile, run and are right; else torch's.

Triton asks for a C compiler once, to build what starts a kernel, and for a folder to keep it in. A machine that has them
not is slower, and told so.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Final

import torch

from gristmill_worker.encoder.local.cuda.kernels import Heads, Kernels, Norms, TorchKernels

log = logging.getLogger(__name__)

#: Characters of a compiler's message that are shown.
_MOST_SAID: Final = 400


@lru_cache
def kernels(device: torch.device, dtype: torch.dtype) -> Kernels:
    """Triton's where they can be used, else torch's, and a warning."""
    if device.type == "cuda" and (problem := triton_problem(device, dtype)) is None:
        from gristmill_worker.encoder.local.cuda.triton_kernels import TritonKernels

        return TritonKernels()
    if device.type == "cuda":
        log.warning("decoder layers run by torch's own operations, more slowly: %s", problem)
    return TorchKernels()


@lru_cache
def triton_problem(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why Triton's kernels cannot be used on a card, and the way out; None where they can. Found out once, by trying."""
    try:
        from gristmill_worker.encoder.local.cuda.triton_kernels import TritonKernels

        _check(TritonKernels(), device, dtype)
    except Exception as error:  # noqa: BLE001  # no Triton, no compiler, no place to write to: each says it in its own way
        said = " ".join(str(error).split())[:_MOST_SAID]
        return (
            f"Triton's kernels cannot be used here ({type(error).__name__}: {said}); they need a C compiler and Python's "
            "headers (apt-get install gcc libc6-dev python3-dev) and a folder to write to (TRITON_CACHE_DIR)"
        )
    return None


def _check(candidate: Kernels, device: torch.device, dtype: torch.dtype) -> None:
    """Compile, and compare with torch's operations.

    Raises:
        ArithmeticError: they give something else.
    """
    heads = Heads(queries=4, keys=2, size=64)
    draw = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype, generator=draw)

    rows, cos, sin, norms = random(5, 512), random(5, 64), random(5, 64), Norms(random(64), random(64), 1e-6)
    found, expected = rows.clone(), rows.clone()
    candidate.rotate_(found, cos, sin, heads, norms)
    TorchKernels().rotate_(expected, cos, sin, heads, norms)
    gated = candidate.gate_(rows.clone()), TorchKernels().gate_(rows.clone())
    for one, other in ((found, expected), gated):
        if not torch.allclose(one.float(), other.float(), rtol=0.05, atol=0.05):
            raise ArithmeticError("they give other numbers than torch's operations")
