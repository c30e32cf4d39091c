"""The search benchmark on real servers and a worker: its keys, and that nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest
from qdrant_client import QdrantClient

from gristmill.settings import variable
from services import QdrantServer

pytestmark = [pytest.mark.server, pytest.mark.slow]
FIXED = [
    "p50_ms", "p99_ms", "raw_qdrant_p50_ms", "overhead_p50_ms", "query_encode_p50_ms", "worker_overhead_p50_ms",
    "interactive_p99_ms_under_bulk", "bulk_batch_ms", "queries_per_s", "threads_ratio",
]  # fmt: skip


def test_it_measures_every_way_of_a_search_and_leaves_nothing(redis_url: str, qdrant_server: QdrantServer) -> None:
    settings = {
        "redis_url": redis_url,
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
    }
    options = ["--encoder", "hash:8", "--documents", "300", "--queries", "50", "--rounds", "1", "--json"]
    options += ["--reranker", "overlap:64"]
    done = subprocess.run(
        [sys.executable, "-m", "gristmill", "bench", "search", *options],
        env={**os.environ, **{variable(name): str(value) for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert (
        figures.items() >= {"encoder": "hash:8", "documents": 300, "dimensions": 8, "searches_under_bulk": 300}.items()
    )
    assert (figures["reranker"], figures["rerank_of_encoder"]) == ("overlap:64", None), "it counts no tokens"
    assert all(figures[f"rerank_{key}"] > 0 for key in ("p50_ms", "p99_ms", "p99_ms_under_bulk", "pairs_per_s"))
    spent, parties = figures["cpu_ms_per_query"], ["client", "worker", "qdrant", "redis"]
    assert list(spent) == list(figures["one_thread_cpu_ms_per_query"]) == parties
    assert figures["ceiling_queries_per_s"] == pytest.approx(figures["cores"] * 1e3 / sum(spent.values()), rel=0.01)
    assert figures["ceiling_fraction"] == pytest.approx(
        figures["queries_per_s"] / figures["ceiling_queries_per_s"], rel=0.01
    )
    differences = {"overhead_p50_ms", "worker_overhead_p50_ms"}
    assert all(figures[key] > 0 for key in FIXED if key not in differences)
    assert differences <= set(figures)
    with closing(QdrantClient(url=qdrant_server.url, check_compatibility=False)) as store:
        assert [each.name for each in store.get_collections().collections if each.name.startswith("bench-")] == []
