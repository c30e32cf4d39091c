"""The encoder against this machine's ceiling and against its peer, all in one run.

Ceiling: a plain (4096, 1024) x (1024, 3072) product in the same number format. Useful work: 2 FLOP per weight of every
linear layer and real token; attention is left out, so the fraction is a lower bound. Each round measures ceiling, peer
and encoder one after the other on the same texts, and the medians over the rounds are reported: a noisy neighbour hits
all three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import numpy as np
import torch

from gristmill_worker.batching.batcher import encode_all
from gristmill_worker.batching.planner import padding_fraction, plan
from gristmill_worker.bench.corpus import mixed_texts
from gristmill_worker.bench.encoding import timed_encoding
from gristmill_worker.bench.peer import Peer, sentence_transformers_peer
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.forward import PaddedForward
from gristmill_worker.encoder.local.load import Loaded, load
from gristmill_worker.encoder.local.parity import cosine_distance, reference_vectors
from gristmill_worker.encoder.open import open_encoder

#: Texts whose vectors are compared with the reference.
CHECKED_TEXTS: Final = 24
#: Longest text that is compared: in float32, one by one, longer ones take minutes on a CPU.
CHECKED_TOKENS: Final = 300
#: Products between two waits for a card.
_PRODUCTS_PER_LOOK: Final = 100


@dataclass(slots=True)
class _Rates:
    """What the rounds gave."""

    gemm_gflops: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peer_seconds: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)


def run_encoder_bench(
    model: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    texts: Sequence[str] | None = None,
    n_texts: int = 300,
    peer: bool = False,
    budget_tokens: int | None = None,
    rounds: int = 3,
) -> dict[str, Any]:
    """Measure one model.

    Args:
        model: anything that `open_encoder` loads on this machine.
        dtype: see `open_encoder`.
        device: see `open_encoder`.
        texts: what to encode; None takes `n_texts` built-in ones of mixed lengths.
        n_texts: how many built-in texts.
        peer: measure sentence-transformers too.
        budget_tokens: see `open_encoder`.
        rounds: how often everything is measured.

    Returns:
        The keys of `gristmill bench encoder --json`; rates are medians, `idle` seconds of the model thread by cause.
    """
    started = time.perf_counter()
    encoder = open_encoder(model, dtype=dtype, device=device, budget_tokens=budget_tokens)
    startup_s = time.perf_counter() - started
    if not isinstance(encoder, TransformersEncoder):
        raise TypeError(f"model: expected one that runs on this machine, got {model!r}")
    plain = load(model, device=device, dtype="float32")
    chosen = list(texts) if texts is not None else mixed_texts(n_texts, plain.tokenizer.count)
    error = cosine_error(encoder, plain, chosen)
    flop_per_token = linear_flop_per_token(plain.model)
    with ExitStack() as stack:
        other = stack.enter_context(sentence_transformers_peer(plain, model, encoder.dtype)) if peer else None
        del plain
        rates = _measure(encoder, chosen, other, rounds)
    return _report(encoder, chosen, rates, flop_per_token, startup_s, error)


def _measure(encoder: TransformersEncoder, texts: list[str], peer: Peer | None, rounds: int) -> _Rates:
    rates = _Rates()
    warm = sorted(texts, key=len)[: min(32, len(texts))]
    encode_all(encoder, encoder.tokenize(warm))
    if peer is not None:
        peer(warm)
    for _ in range(rounds):
        rates.gemm_gflops.append(gemm_gflops(torch.device(encoder.device), getattr(torch, encoder.dtype)))
        done = timed_encoding(encoder, texts)
        seconds, waited_s = done.seconds, done.waited_s
        rates.seconds.append(seconds)
        rates.waited_s.append(waited_s)
        if peer is not None:
            rates.peer_seconds.append(_timed(lambda: peer(texts)))
    return rates


def gemm_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a plain product of ordinary size, the median of five looks: the ceiling."""
    rows, inner, columns = 4_096, 1_024, 3_072
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    # A card ends one product in less time than it takes to start it and to wait: a row of them shows the card's own rate.
    products = _PRODUCTS_PER_LOOK if device.type == "cuda" else 1

    def look() -> None:
        for _ in range(products):
            torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    look()
    return 2 * rows * inner * columns * products / median(_timed(look) for _ in range(5)) / 1e9


def linear_flop_per_token(model: torch.nn.Module) -> int:
    """2 FLOP per weight of every linear layer that runs on every token; poolers run on one token per text."""
    return 2 * sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name
    )


def cosine_error(encoder: TransformersEncoder, plain: Loaded, texts: list[str]) -> float:
    """Largest cosine distance to the untouched model in float32, one text at a time, over a sample of the texts."""
    items = [item for item in encoder.tokenize(texts) if item.n_tokens <= CHECKED_TOKENS][:CHECKED_TEXTS]
    if not items:
        return 0.0
    with torch.inference_mode():
        forward = PaddedForward(plain.model, plain.info.pooling, plain.device, plain.own_attention)
        reference = plain.head(reference_vectors(forward, [item.ids for item in items]))
    return max(0.0, cosine_distance(torch.from_numpy(encode_all(encoder, items)), reference.cpu()))


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _report(
    encoder: TransformersEncoder, texts: list[str], rates: _Rates, flop_per_token: int, startup_s: float, error: float
) -> dict[str, Any]:
    lengths = [item.n_tokens for item in encoder.tokenize(texts)]
    tokens = int(np.sum(lengths))
    tokens_per_s = tokens / median(rates.seconds)
    useful = [tokens * flop_per_token / seconds / 1e9 for seconds in rates.seconds]
    ceiling = median(rates.gemm_gflops)
    groups = plan(lengths, encoder.limits.tokens, padded=not encoder.packed)
    peers = [tokens / seconds for seconds in rates.peer_seconds]
    ratios = [theirs / ours for theirs, ours in zip(rates.peer_seconds, rates.seconds, strict=False)]
    return {
        "model": encoder.info.model,
        "device": encoder.device,
        "dtype": encoder.dtype,
        "texts": len(texts),
        "tokens": tokens,
        "tokens_per_s": round(tokens_per_s, 1),
        "texts_per_s": round(len(texts) / median(rates.seconds), 2),
        "budget_tokens": encoder.limits.tokens,
        "padding_fraction": 0.0 if encoder.packed else round(padding_fraction(groups, lengths), 4),
        "useful_gflops": round(median(useful), 1),
        "gemm_gflops": round(ceiling, 1),
        "ceiling_fraction": round(median(rate / gemm for rate, gemm in zip(useful, rates.gemm_gflops, strict=True)), 3),
        "startup_s": round(startup_s, 2),
        "peer_tokens_per_s": round(median(peers), 1) if peers else None,
        "ratio_to_peer": round(median(ratios), 3) if ratios else None,
        "max_cosine_error": error,
        "idle": {"no_work": 0.0, "tokens": round(median(rates.waited_s), 4), "store": 0.0},
    }
