"""`gristmill bench gpu`: one card, four kinds of texts, one table that names what it was measured on.

Bulk cases go as a worker encodes, tokenizing ahead; queries go through the interactive lane, one after the other and with as
many waiting as a query lane holds. The peer is sentence-transformers with the best attention that is installed, in the
same number format and in the same rounds, on every fourth of the same texts: it takes several times as long. `--device cpu`
prints the same table without a card.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from statistics import median, quantiles
from typing import Any, Final

import torch

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.submission import Lane
from gristmill_worker.bench.corpus import even_texts, mixed_texts
from gristmill_worker.bench.encoder_bench import cosine_error, gemm_gflops, linear_flop_per_token
from gristmill_worker.bench.encoding import timed_encoding
from gristmill_worker.bench.peer import Peer, sentence_transformers_peer
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.cards import driver_version, nominal_tflops
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.load import load
from gristmill_worker.encoder.open import open_encoder

#: Told what is being done, in words.
Note = Callable[[str], object]
#: Median of the mixed texts' lengths: their mean is about 176 tokens, a paragraph or two.
MIXED_TOKENS: Final = 111
#: Tokens of every text of a case.
SHORT_TOKENS: Final = 20
LONG_TOKENS: Final = 1_000
QUERY_TOKENS: Final = 16
#: Of the texts of a bulk case the peer gets every so many-th.
PEER_STRIDE: Final = 4
#: Queries that wait at once: the threads of a query lane.
WAITING: Final = 32
#: Queries per round.
QUERIES: Final = 128


def run_gpu_bench(
    model: str,
    *,
    device: str = "cuda",
    dtype: str = "auto",
    n_texts: int = 2_000,
    peer: bool = False,
    budget_tokens: int | None = None,
    rounds: int = 5,
    note: Note = lambda _: None,
) -> dict[str, Any]:
    """Measure one model on one card.

    Args:
        model: anything that `open_encoder` loads on this machine.
        device: `cuda`, `cuda:N`, or `cpu` for the same table without a card.
        dtype: see `open_encoder`.
        n_texts: texts of the mixed case; the others have about as many tokens.
        peer: measure sentence-transformers too.
        budget_tokens: see `open_encoder`.
        rounds: how often everything is measured; rates are medians.
        note: told what is being done, in words.

    Raises:
        InvalidInput: there is no card.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidInput(
            "device: expected a CUDA device, and this machine has none; `--device cpu` prints the same table here"
        )
    note(f"opening {model} on {device}")
    started = time.perf_counter()
    encoder = open_encoder(model, dtype=dtype, device=device, budget_tokens=budget_tokens)
    startup_s = time.perf_counter() - started
    if not isinstance(encoder, TransformersEncoder):
        raise InvalidInput(f"model: expected one that runs on this machine, got {model!r}")
    start_memory_gb = _peak_gb(encoder)
    note("making texts, and encoding each kind once for its memory")
    cases = _texts(n_texts, encoder.count)
    # Before anything else is loaded beside it.
    memory_gb = {name: _memory_gb(encoder, texts) for name, texts in cases.items()}
    note("comparing with the plain model in float32")
    plain = load(model, device=device, dtype="float32")
    error, flop_per_token = cosine_error(encoder, plain, cases["mixed"]), linear_flop_per_token(plain.model)
    attention = best_attention(device)
    with ExitStack() as stack:
        other = (
            stack.enter_context(sentence_transformers_peer(plain, model, encoder.dtype, attention)) if peer else None
        )
        del plain
        table: dict[str, Any] = {}
        for name, texts in cases.items():
            note(f"{name}: {len(texts):,} texts, {rounds} rounds")
            table[name] = {**_bulk(encoder, texts, other, flop_per_token, rounds), "memory_gb": memory_gb[name]}
            note(f"{name}: " + _in_words(table[name], "tokens_per_s", "ceiling_fraction", "ratio_to_peer", "memory_gb"))
        note(f"queries: {QUERIES}, {rounds} rounds")
        queries = even_texts(QUERIES, QUERY_TOKENS, encoder.count)
        table["queries"] = _queries(encoder, queries, cases["mixed"], other, rounds)
        note("queries: " + _in_words(table["queries"], "alone_ms_p50", "under_bulk_ms_p50", "waiting_queries_per_s"))
    return {
        "model": encoder.info.model,
        **_machine(encoder),
        "dtype": encoder.dtype,
        "attention": encoder.attention,
        "budget_tokens": encoder.limits.tokens,
        "startup_s": round(startup_s, 2),
        "start_memory_gb": start_memory_gb,
        "max_cosine_error": error,
        "peer": f"sentence-transformers, {attention}" if peer else None,
        "rounds": rounds,
        "cases": table,
    }


def _in_words(case: dict[str, Any], *keys: str) -> str:
    return ", ".join(f"{key} {case[key]:,}" for key in keys if case[key] is not None)


def best_attention(device: str) -> str:
    """The fastest attention that sentence-transformers can be given here."""
    flash = device.startswith("cuda") and find_spec("flash_attn") is not None
    return "flash_attention_2" if flash else "sdpa"


def _machine(encoder: TransformersEncoder) -> dict[str, Any]:
    cuda = encoder.device.startswith("cuda")
    name = torch.cuda.get_device_name(encoder.device) if cuda else None
    return {
        "device": encoder.device,
        "card": name,
        "driver": driver_version() if cuda else None,
        "torch": torch.__version__,
        "nominal_tflops": nominal_tflops(name) if name else None,
    }


def _texts(count: int, count_tokens: Callable[[str], int]) -> dict[str, list[str]]:
    mixed = mixed_texts(count, count_tokens, MIXED_TOKENS)
    tokens = sum(map(count_tokens, mixed))
    return {
        "mixed": mixed,
        "short": even_texts(max(1, tokens // SHORT_TOKENS), SHORT_TOKENS, count_tokens),
        "long": even_texts(max(1, tokens // LONG_TOKENS), LONG_TOKENS, count_tokens),
    }


def _bulk(
    encoder: TransformersEncoder, texts: Sequence[str], peer: Peer | None, flop_per_token: int, rounds: int
) -> dict[str, Any]:
    device, dtype = torch.device(encoder.device), getattr(torch, encoder.dtype)
    lengths = [item.n_tokens for item in encoder.tokenize(texts)]
    tokens, peer_tokens = sum(lengths), sum(lengths[::PEER_STRIDE])
    timed_encoding(encoder, texts[:64])
    seconds, gemms, peers = [], [], []
    for _ in range(rounds):
        gemms.append(gemm_gflops(device, dtype))
        seconds.append(timed_encoding(encoder, texts).seconds)
        if peer is not None:
            peers.append(_timed(lambda: peer(texts[::PEER_STRIDE])) * tokens / peer_tokens)
    ratios = [theirs / ours for theirs, ours in zip(peers, seconds, strict=False)]
    gflops = tokens * flop_per_token / median(seconds) / 1e9
    nominal = _machine(encoder)["nominal_tflops"]
    return {
        "texts": len(texts),
        "tokens": tokens,
        "mean_tokens": round(tokens / len(texts), 1),
        "tokens_per_s": round(tokens / median(seconds), 1),
        "texts_per_s": round(len(texts) / median(seconds), 1),
        "useful_tflops": round(gflops / 1e3, 3),
        "gemm_tflops": round(median(gemms) / 1e3, 3),
        "ceiling_fraction": round(gflops / median(gemms), 3),
        "nominal_fraction": round(gflops / 1e3 / nominal, 3) if nominal else None,
        "ratio_to_peer": round(median(ratios), 3) if ratios else None,
    }


def _queries(
    encoder: TransformersEncoder, queries: list[str], documents: list[str], peer: Peer | None, rounds: int
) -> dict[str, Any]:
    batcher = Batcher(encoder)
    parts = [queries[at : at + WAITING] for at in range(0, len(queries), WAITING)]

    def ask(texts: Sequence[str]) -> None:
        for future in [batcher.submit(encoder.tokenize([text]), Lane.INTERACTIVE) for text in texts]:
            future.result()

    alone: list[float] = []
    under_bulk: list[float] = []
    together: list[float] = []
    peers: list[float] = []
    try:
        ask(queries[:WAITING])
        for _ in range(rounds):
            alone.extend(_timed(lambda: ask([query])) for query in queries)  # noqa: B023  # called at once
            together.append(sum(_timed(lambda: ask(part)) for part in parts))  # noqa: B023  # called at once
            if peer is not None:
                peers.extend(_timed(lambda: peer([query])) for query in queries)  # noqa: B023  # called at once
        with _bulk_work(batcher, encoder.tokenize(documents)):
            under_bulk.extend(_timed(lambda: ask([query])) for query in queries)  # noqa: B023  # called at once
    finally:
        batcher.close()
    return {
        "queries": len(queries),
        "alone_ms_p50": round(1e3 * median(alone), 2),
        "alone_ms_p95": round(1e3 * quantiles(alone, n=20)[-1], 2),
        "under_bulk_ms_p50": round(1e3 * median(under_bulk), 2),
        "under_bulk_ms_p95": round(1e3 * quantiles(under_bulk, n=20)[-1], 2),
        "waiting": WAITING,
        "waiting_queries_per_s": round(len(queries) / median(together), 1),
        "ratio_to_peer": round(median(peers) / median(alone), 3) if peers else None,
        "waiting_ratio_to_peer": round(median(peers) * len(queries) / median(together), 3) if peers else None,
    }


@contextmanager
def _bulk_work(batcher: Batcher, documents: Sequence[TokenizedText]) -> Iterator[None]:
    """The model has more documents than it can encode while the block runs."""
    ended = threading.Event()

    def feed() -> None:
        waiting = [batcher.submit(documents)]
        while not ended.is_set():
            waiting.append(batcher.submit(documents))
            waiting.pop(0).result()
        for future in waiting:
            future.result()

    done = batcher.batches_done
    feeder = threading.Thread(target=feed, name="feeder")
    feeder.start()
    try:
        while batcher.batches_done == done and feeder.is_alive():
            time.sleep(0.001)
        yield
    finally:
        ended.set()
        feeder.join()


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _memory_gb(encoder: TransformersEncoder, texts: Sequence[str]) -> float | None:
    """Most memory that encoding these takes, the weights included; None without a card."""
    if not encoder.device.startswith("cuda"):
        return None
    torch.cuda.reset_peak_memory_stats(encoder.device)
    timed_encoding(encoder, texts)
    return _peak_gb(encoder)


def _peak_gb(encoder: TransformersEncoder) -> float | None:
    if not encoder.device.startswith("cuda"):
        return None
    return round(torch.cuda.max_memory_allocated(encoder.device) / 1e9, 3)
