"""Settings of a worker: those of an application, and what only the worker needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeVar

from pydantic import Field, SecretStr, field_validator

from gristmill.ingest.notify import parse_networks, require_signing_secret
from gristmill.settings import ClientSettings
from gristmill_schemas import Pooling
from gristmill_schemas.errors import InvalidInput


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
    threads: int = Field(
        16, ge=1, le=256, description="Parcels worked on at once; each holds 64 documents, or up to 256 short ones"
    )
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
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of a worker's `/metrics`, `/healthz` and `/readyz`, say 9464; unset opens none, 0 takes a free "
        "one. Of several processes each takes the next",
    )
    metrics_host: str = Field(
        "0.0.0.0", min_length=1, description="Address that it listens on; `127.0.0.1`: this machine only"
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="Signs webhooks: `whsec_…`, as `gristmill webhooks secret` makes it; two with a comma between while "
        "receivers change from one to the other. Unset: webhooks wait for a worker that has it; see docs/howto/webhooks.md",
    )
    webhook_private_networks: str | None = Field(
        None,
        description="Networks that webhooks may go to beside public addresses, and by http too: `10.1.0.0/16,127.0.0.1`",
    )
    webhook_attempts: int = Field(
        10, ge=1, le=20, description="Times that a webhook is sent before it counts as failed; ten take about a day"
    )
    webhook_retry_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Pause after the first attempt at a webhook, seconds; each further one is four times as long, up to six "
        "hours",
    )
    webhook_timeout_s: float = Field(
        10.0, gt=0, le=60, description="Longest wait for a receiver, from its name to the end of its answer, seconds"
    )

    @field_validator("webhook_secret")
    @classmethod
    def _signing_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        for secret in value.get_secret_value().split(",") if value else ():
            require_signing_secret(secret)
        return value

    @field_validator("webhook_private_networks")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        parse_networks(value or "")
        return value


class ServerSettings(WorkerSettings):
    """What `gristmill serve`, and a worker with `--serve`, need beyond that."""

    serve_host: str = Field("127.0.0.1", min_length=1, description="Address that the server listens on; `0.0.0.0`: all")
    serve_port: int = Field(8000, ge=0, le=65535, description="Port that the server listens on; 0 takes a free one")
    serve_api_keys: str | None = Field(
        None,
        min_length=1,
        description="File of API keys, one to a line; unset lets everybody in. Read again when it changes",
    )
    serve_max_body_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="Largest body of one request, bytes; a larger one is answered with 413"
    )
    serve_max_inputs: int = Field(
        2_048, ge=1, le=65_536, description="Most texts, or documents to rerank, of one request"
    )
    serve_max_requests: int = Field(
        512, ge=1, description="Most requests at once; one more is answered with 429 and Retry-After"
    )
    serve_queue_texts: int = Field(
        16_384,
        ge=1,
        description="Most texts that wait for the model at once; a request beyond is answered with 429 and Retry-After",
    )
    serve_read_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest wait for a request's body, seconds; then it is answered with 408"
    )
    serve_live: Literal["auto", "on", "read-only", "off"] = Field(
        "auto",
        description="The live page at `/live/`; `auto`: of a worker, and of `gristmill serve` where "
        "`GRISTMILL_REDIS_URL` is set",
    )
    serve_live_remote: bool = Field(
        False,
        description="Without API keys, let other machines see the live page, too; nobody can change anything then",
    )


W = TypeVar("W", bound=WorkerSettings)

#: Settings that describe a model, and cannot be meant for two.
_OF_ONE_MODEL: Final = ("revision", "pooling", "max_tokens", "budget_tokens")


def of_each_model(settings: W, models: Sequence[str]) -> list[W]:
    """The settings of each model, all on the one device; of none, those of the settings' own.

    Raises:
        InvalidInput: what describes one model is set for several.
    """
    names = list(models) or [settings.model]
    if len(names) > 1 and (fixed := [name for name in _OF_ONE_MODEL if getattr(settings, name) is not None]):
        raise InvalidInput(
            f"{', '.join(fixed)}: expected to be unset with several models, since each has its own; "
            "serve that model from a worker of its own"
        )
    return [settings.model_copy(update={"model": name}) for name in names]
