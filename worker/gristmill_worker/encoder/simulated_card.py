"""`card:TOKENS_PER_S`: a stand-in for a model on an accelerator, so that a pipeline can be measured where no card is.

For the thread that launches, a launch is what it is on a card: Qwen3-0.6B's 28 fused layers, whose operations are started
from Python one by one, and each gives Python's lock away meanwhile. Only the numbers are few: a narrow model, one short
text, and one small operation for what has a kernel of its own on a card. The card itself is a clock: it has one batch after
another, each for as long as its tokens take at the rate in the name, and whoever waits for it sleeps. Tokens are those of
`random:qwen3-0.6b`, vectors those of `hash:1024`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3Model

from gristmill_schemas import ChunkBy, EncoderInfo, Pooling
from gristmill_worker.encoder.base import BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.encoder.local import random_model
from gristmill_worker.encoder.local.cuda.attention import Kernel
from gristmill_worker.encoder.local.cuda.decoder import Started, fuse
from gristmill_worker.encoder.local.cuda.kernels import Heads, Norms
from gristmill_worker.encoder.local.forward import PackedForward
from gristmill_worker.encoder.local.random_model import QWEN3_06B
from gristmill_worker.encoder.tokenizing import Tokenizer, TokenizerReader

#: What an H200 has measured for itself with this shape.
_BUDGET_TOKENS: Final = 16_384
#: Its pass costs what starting it costs.
_NARROW: Final[dict[str, Any]] = {
    **QWEN3_06B,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 8,
    "attn_implementation": "sdpa",
}
_TEXT: Final = np.arange(8, dtype=np.int32) % 8
#: Seconds of Python that Triton takes to start a kernel. With the sizes above a launch alone takes about what it took beside
#: an H200, where a query of 16 tokens whose kernels were started one by one had its vector after 7.8 ms.
_TRITON_S: Final = 25e-6


class _Kernels:
    """See `Kernels`: as many operations, other numbers."""

    name = "simulated"

    def rotate_(
        self, rows: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: Heads, norms: Norms | None
    ) -> None:
        """See `Kernels.rotate_`."""
        _spend(_TRITON_S)
        rows.neg_()

    def gate_(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Kernels.gate_`."""
        _spend(_TRITON_S)
        rows.neg_()
        return rows[:, : rows.shape[1] // 2]


def _spend(seconds: float) -> None:
    """In Python, which nobody else can meanwhile."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _attend(q: torch.Tensor, *_: Any) -> torch.Tensor:
    return q.clone()


class SimulatedCard:
    """See `Encoder`."""

    device = "card"
    dtype = "bfloat16"

    def __init__(self, tokens_per_s: int, *, max_tokens: int | None = None, budget_tokens: int | None = None) -> None:
        """A card that is free.

        Args:
            tokens_per_s: what it does.
            max_tokens: the window.
            budget_tokens: most per launch.
        """
        tokenizer, info = build_reader(tokens_per_s, max_tokens)
        self.info = info
        self.limits = BatchLimits(budget_tokens or _BUDGET_TOKENS, in_flight=2, beside=True)
        self._reader = TokenizerReader(tokenizer, info)
        self._vectors = HashEncoder(info.dimensions)
        self._tokens_per_s = tokens_per_s
        # What starts kernels on a card uses one core.
        torch.set_num_threads(1)
        model: Any = Qwen3Model(Qwen3Config(**_NARROW))
        model.eval().requires_grad_(False)
        fuse(model, Started(_Kernels(), Kernel("simulated", _attend)))
        self._forward = PackedForward(model, Pooling.LAST, torch.device("cpu"))
        self._lock = threading.Lock()
        self._free_at = 0.0

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """See `TextReader.tokenize`."""
        return self._reader.tokenize(texts)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """See `TextReader.chunk`."""
        return self._reader.chunk(text, size, overlap, by, reserved)

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """See `Encoder.launch`."""
        began = time.perf_counter()
        with torch.inference_mode():
            self._forward([_TEXT])
        with self._lock:
            # Its first kernels run while the last ones are started.
            ends = max(self._free_at, began) + sum(item.n_tokens for item in batch) / self._tokens_per_s
            self._free_at = ends = max(ends, time.perf_counter())
        return _Launched(self._vectors, batch, ends)

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        return self.launch(batch)()

    def close(self) -> None:
        """Nothing to give back."""


class _Launched:
    """See `Pending`."""

    def __init__(self, encoder: HashEncoder, batch: Sequence[TokenizedText], ends: float) -> None:
        self._encoder, self._batch, self._ends = encoder, batch, ends

    def wait(self) -> None:
        """See `Pending.wait`."""
        time.sleep(max(0.0, self._ends - time.perf_counter()))

    def __call__(self) -> Vectors:
        """See `Pending`."""
        self.wait()
        return self._encoder.encode(self._batch)


def build_reader(tokens_per_s: int, max_tokens: int | None) -> tuple[Tokenizer, EncoderInfo]:
    """Tokenizer and description."""
    tokenizer, info = random_model.build_reader("random:qwen3-0.6b", max_tokens)
    named = {"model": f"card:{tokens_per_s}", "digest": f"card-1-{tokens_per_s}-{info.digest}"}
    return tokenizer, info.model_copy(update=named)
