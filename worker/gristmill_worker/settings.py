"""Settings of a worker: those of an application, and what only the worker needs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from gristmill.settings import ClientSettings
from gristmill_schemas import Pooling


class WorkerSettings(ClientSettings):
    """What a worker needs to encode and to write."""

    revision: str | None = Field(None, description="Commit of the model on the hub; unset takes its main branch")
    trust_remote_code: bool = Field(
        False,
        description="Run the Python code that a model brings along (`auto_map` in its `config.json`); a hub id then needs "
        "its commit as `revision`",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        description="`auto`, `cpu`, `cuda`, `cuda:1` …: where the model runs",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights; `auto` takes bfloat16 where the hardware multiplies it"
    )
    pooling: Pooling | None = Field(None, description="Overrides the pooling that the model's folder states")
    max_tokens: int | None = Field(None, ge=8, description="Overrides the model's window, in tokens")
    reranker_revision: str | None = Field(
        None, description="Commit of the reranker on the hub; unset takes its main branch"
    )
    reranker_max_tokens: int | None = Field(
        None, ge=8, description="Overrides the reranker's window, query and document together, in tokens"
    )
    budget_tokens: int | None = Field(
        None, ge=16, description="Tokens per batch; unset measures what this machine does best and remembers it"
    )
    remote_api_key: SecretStr | None = Field(None, description="Key for a model behind an OpenAI-compatible URL")
    remote_wait_s: float = Field(
        300.0, gt=0, description="Longest wait at the start for a model server that is away, seconds"
    )
    threads: int = Field(16, ge=1, le=256, description="Parcels worked on at once; each holds up to 64 documents")
    max_attempts: int = Field(
        3, ge=1, le=20, description="Times a parcel is tried before it is split, and a single document parked"
    )
    server_wait_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Longest wait of one thread for Qdrant or a model server; then its parcel goes back for a while",
    )
    lease_s: float = Field(
        30.0, ge=1, le=3600, description="A worker that is silent for this long loses its parcels to others, seconds"
    )
    reconcile_every_s: float = Field(
        5.0, gt=0, le=3600, description="How often the one active reconciler looks for lost work, seconds"
    )
    encode_timeout_s: float = Field(
        600.0, gt=0, description="A batch that takes longer has hung: the process exits, for its supervisor to restart"
    )
    drain_timeout_s: float = Field(
        25.0,
        gt=0,
        le=3600,
        description="After SIGTERM, finish running work for at most this long, then hand it back and exit, seconds; "
        "Kubernetes kills after 30",
    )
