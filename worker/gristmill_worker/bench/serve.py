"""A server under load beside its own encoder: what of the encoder's rate comes through HTTP.

In each round the same texts are encoded by the encoder alone, as a worker feeds it, and then by a server in a process of
its own, asked by one asynchronous driver that keeps so many requests under way. Round by round the two stand side by
side, so a noisy neighbour hits both; the medians are reported.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import httpx
import numpy as np

from gristmill_schemas.errors import GristmillError
from gristmill_worker.bench.corpus import mixed_texts
from gristmill_worker.bench.encoding import timed_encoding
from gristmill_worker.bench.pipeline.processes import running
from gristmill_worker.encoder import Encoder, open_encoder
from gristmill_worker.encoder.hash_encoder import count_tokens

#: Longest wait for a server whose model loads, and between two looks at it, seconds.
_START_S, _LOOK_S = 600.0, 0.1
#: Longest wait for one answer, seconds.
_ANSWER_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class ServePlan:
    """What is measured."""

    model: str
    dtype: str = "auto"
    requests: int = 128
    concurrent: int = 64
    texts: int = 16
    rounds: int = 3


@dataclass(slots=True)
class _Rates:
    """What the rounds gave."""

    encoder_s: list[float] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)
    request_s: list[float] = field(default_factory=list)


def run_serve_bench(plan: ServePlan) -> dict[str, Any]:
    """Measure; no process is left.

    Returns:
        The keys of `gristmill bench serve --json`; rates are medians over the rounds.

    Raises:
        GristmillError: the model cannot be loaded, or the server does not answer.
    """
    encoder = open_encoder(plan.model, dtype=plan.dtype)
    count = getattr(encoder, "count", count_tokens)
    texts = mixed_texts(plan.requests * plan.texts, count)
    texts = [text for text in texts if not encoder.tokenize([text])[0].truncated]
    parts = [texts[at : at + plan.texts] for at in range(0, len(texts), plan.texts)]
    rates = _Rates()
    with _server(plan) as address:
        timed_encoding(encoder, texts[: plan.texts])
        asyncio.run(_ask_all(address, plan, parts[:2]))
        for _ in range(plan.rounds):
            _round(encoder, address, plan, texts, parts, rates)
    return _report(plan, len(texts), len(parts), rates)


def _round(
    encoder: Encoder, address: str, plan: ServePlan, texts: list[str], parts: Sequence[list[str]], rates: _Rates
) -> None:
    seconds = timed_encoding(encoder, texts).seconds
    rates.encoder_s.append(seconds)
    started = time.perf_counter()
    rates.request_s += asyncio.run(_ask_all(address, plan, parts))
    rates.server_s.append(time.perf_counter() - started)


async def _ask_all(address: str, plan: ServePlan, parts: Sequence[list[str]]) -> list[float]:
    """Seconds of each request, so many of them under way at once."""
    left = iter(parts)
    limits = httpx.Limits(max_connections=plan.concurrent, max_keepalive_connections=plan.concurrent)
    async with httpx.AsyncClient(base_url=address, timeout=_ANSWER_S, limits=limits) as client:

        async def one_after_the_other() -> list[float]:
            return [await _ask(client, plan.model, part) for part in left]

        found = await asyncio.gather(*(one_after_the_other() for _ in range(plan.concurrent)))
    return [seconds for each in found for seconds in each]


async def _ask(client: httpx.AsyncClient, model: str, part: list[str]) -> float:
    started = time.perf_counter()
    body = {"model": model, "input": part, "encoding_format": "base64"}
    answer = await client.post("/v1/embeddings", json=body)
    if not answer.is_success:
        raise GristmillError(f"the server refused a request: {answer.status_code} {answer.text[:300]}")
    return time.perf_counter() - started


@contextmanager
def _server(plan: ServePlan) -> Iterator[str]:
    """The address of a server of this model, ready."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "gristmill", "serve", "--model", plan.model, "--dtype", plan.dtype]
    with running([*command, "--port", str(port), "--log-level", "warning"], {}) as process:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + _START_S
        while not _ready(address):
            if process.poll() is not None or time.monotonic() > until:
                raise GristmillError("the server did not start; what it said stands above")
            time.sleep(_LOOK_S)
        yield address


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").is_success
    except httpx.HTTPError:
        return False


def _report(plan: ServePlan, texts: int, requests: int, rates: _Rates) -> dict[str, Any]:
    pairs = zip(rates.encoder_s, rates.server_s, strict=True)
    return {
        "model": plan.model,
        "texts_per_s": round(texts / median(rates.server_s), 1),
        "encoder_texts_per_s": round(texts / median(rates.encoder_s), 1),
        "efficiency": round(median(alone / served for alone, served in pairs), 3),
        "p50_ms": round(1e3 * float(np.percentile(rates.request_s, 50)), 1),
        "p99_ms": round(1e3 * float(np.percentile(rates.request_s, 99)), 1),
        "requests": requests,
        "concurrent": plan.concurrent,
        "texts_per_request": plan.texts,
        "rounds": plan.rounds,
    }
