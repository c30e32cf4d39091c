"""Triton's kernels compile for cards that are not here. What they give is looked at on a card (test_cuda.py)."""

from typing import Any

import pytest

triton: Any = pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds")
POINTERS = ("rows", "cos", "sin", "query_norm", "key_norm")
NUMBERS = {"QUERIES": 16, "HEADS": 24, "HALF": 64, "ROOM": 32}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["*bf16", "*fp16", "*fp32"])
def test_kernels_compile(capability: int, dtype: str) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from gristmill_worker.encoder.local.cuda import triton_kernels

    card = GPUTarget("cuda", capability, 32)
    for normed in (True, False):
        signature = dict.fromkeys(POINTERS, dtype) | {"stride": "i32", "eps": "fp32"}
        signature |= dict.fromkeys((*NUMBERS, "NORMED"), "constexpr")
        source = ASTSource(triton_kernels._rotate, signature, {**NUMBERS, "NORMED": normed})
        assert triton.compile(source, target=card).asm["cubin"]
    signature = {"rows": dtype, "width": "i32", "BLOCK": "constexpr"}
    source = ASTSource(triton_kernels._gate, signature, {"BLOCK": 1_024})
    assert triton.compile(source, target=card).asm["cubin"]
