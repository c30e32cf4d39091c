"""Settings of an application: `GRISTMILL_*` variables, then a `.env` file, then the defaults below.

Workers extend this class (`gristmill_worker.settings`). Nothing else in the code reads the environment.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_serializer, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gristmill.addresses import QdrantAddress, RedisAddress
from gristmill.options import ClientOptions, EmbeddedOptions, check_names, names_of
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.redaction import HIDDEN, Guarded, redact, remember, remember_url
from gristmill_schemas.validation import RaisesInvalidInput, clean_key, expectation

#: What of a refused key may be the key.
_RUNS = re.compile(r"[!-~]{8,}")

log = logging.getLogger(__name__)

S = TypeVar("S", bound="ClientSettings")

ENV_PREFIX = "GRISTMILL_"
#: Settings that may be or hold a URL, and so a password.
_ADDRESSES = ("redis_url", "qdrant_url", "embedded_path", "model", "reranker")
#: How the names of settings end that hold a secret and nothing else.
_SECRETS = ("_key", "_secret")
#: A wrong address that surely holds no password: scheme, host, port and database, as far as they are there.
_INNOCENT = re.compile(r"([\w+.-]*:?/*)?[\w.-]*(:\d{1,5})?(/\d*)?")


class _KnownNames(RaisesInvalidInput):
    """Unknown names are ignored in `.env` files, which hold other programs' variables too, and nowhere else."""

    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **values: Any) -> Any:  # noqa: N805  # what calls is a class
            """Make settings."""
            own = {name: value for name, value in values.items() if not name.startswith("_")}
            check_names(f"{cls.__name__}()", own, cls.model_fields)
            return super().__call__(*args, **values)


class _EnvFile(DotEnvSettingsSource):
    """The `.env` file. One that is there and cannot be read is refused: settings that somebody wrote are not passed over."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        # Not in the class's configuration, which has pydantic-settings read the file once more in its own way.
        super().__init__(settings_cls, env_file=".env", env_file_encoding="utf-8-sig")

    def _read_env_files(self) -> Mapping[str, str | None]:
        if isinstance(self.env_file, str | Path) and Path(self.env_file).is_dir():
            raise _unreadable(self.env_file, "a folder")
        return super()._read_env_files()

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            return super()._read_env_file(file_path)
        except UnicodeDecodeError:
            raise _unreadable(file_path, f"{_encoding(file_path)}; save it as UTF-8") from None
        except OSError as error:
            raise _unreadable(file_path, f"one that cannot be read: {error.strerror}") from None


def _encoding(path: Path) -> str:
    # What Windows writes: PowerShell's `>`, and Notepad's "Unicode".
    return "UTF-16" if path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"


def _unreadable(path: str | Path, got: str) -> InvalidInput:
    return InvalidInput(f".env: expected a text file in UTF-8 at {Path(path).resolve()}, got {got}", field=".env")


class ClientSettings(BaseSettings, metaclass=_KnownNames):
    """What an application needs to enqueue and to search. Wrong values raise InvalidInput."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where values come from, the strongest first."""
        return init_settings, env_settings, _EnvFile(settings_cls)

    redis_url: str = Field(
        "redis://localhost:6379/0",
        description="Broker and ledger: redis://, rediss:// (TLS), unix:// or sentinel://; see docs/howto/servers.md",
    )
    redis_timeout_s: float = Field(5.0, gt=0, le=600, description="Longest wait for one answer of Redis, seconds")
    key_prefix: str = Field(
        "gristmill",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="First part of every Redis key and queue; lets installations share one Redis",
    )
    qdrant_url: str = Field(
        "http://localhost:6333",
        description="Qdrant's REST address, a path in front included; see docs/howto/servers.md",
    )
    qdrant_grpc_port: int = Field(
        6334, ge=1, le=65535, description="Qdrant's gRPC port, on the host of its REST address"
    )
    qdrant_prefer_grpc: bool = Field(
        True,
        description="Speak gRPC with Qdrant; `false` keeps to its REST address, where only that is let through: slower",
    )
    qdrant_compression: bool = Field(
        False,
        description="Have Qdrant compress its answers: for a line of less than 100 Mbit/s; see docs/howto/servers.md",
    )
    qdrant_api_key: SecretStr | None = Field(None, description="API key or JWT for Qdrant")
    qdrant_timeout_s: int = Field(30, ge=1, le=600, description="Longest wait for one answer of Qdrant, seconds")
    start_wait_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Longest wait of a worker at its start for Redis and Qdrant, seconds; a command waits for 5 of them",
    )
    embedded_path: str | None = Field(
        None,
        description="Embedded mode, all in this process: a folder, `:memory:` or a Qdrant URL. Unset: use the servers",
    )
    model: str = Field(
        "Qwen/Qwen3-Embedding-0.6B", min_length=1, description="Model of new collections and of the worker"
    )
    reranker: str | None = Field(
        None,
        min_length=1,
        description="Reranker of `rerank=True` and of the worker: a folder, a hub id, or the URL of a server that reranks; "
        "see docs/howto/rerank.md",
    )
    queue_max_documents: int = Field(
        1_000_000, ge=1, description="High-water mark: `enqueue` waits while more documents than this are unfinished"
    )
    queue_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=65_536,
        description="High-water mark in bytes of Redis's memory: unfinished work with its messages, and remembered jobs",
    )
    tenant_max_documents: int | None = Field(
        None,
        ge=0,
        description="Most documents that one tenant may have unfinished: its `enqueue` waits beyond, nobody else's does. "
        "Unset: as many as there is room for. `gristmill tenants limit` sets it for one tenant; see fairness.md",
    )
    tenant_max_tokens: int | None = Field(
        None, ge=0, description="Likewise, tokens: a quarter of the texts' bytes in UTF-8"
    )
    tenant_max_bytes: int | None = Field(
        None, ge=0, description="Likewise, bytes: of text and metadata, and 64 for each document"
    )
    scale_tokens_per_s: float = Field(
        5_000.0,
        gt=0,
        le=1e9,
        description="Tokens per second that a worker is taken to encode as long as none has measured: what autoscalers see "
        "of a model's first work; see docs/howto/scale.md",
    )
    dead_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=65_536,
        description="Bytes of Redis's memory in dead letters above which workers stop: replay or drop some",
    )
    dead_text_ttl_s: int = Field(
        30 * 86_400, ge=60, description="How long a dead document's text is kept; its id and the reason stay"
    )
    jobs_kept: int = Field(
        100_000, ge=1, le=10_000_000, description="Finished jobs that are remembered; the oldest make room"
    )
    roster: bool = Field(
        True,
        description="Keep id and version of every accepted document in Redis (40 to 70 bytes each, 17 more for one that was "
        "updated), so that `gristmill audit` can name what is missing",
    )
    query_timeout_s: float = Field(10.0, gt=0, le=600, description="Longest wait for a query's vector, seconds")
    query_cache_bytes: int = Field(
        16 * 1024 * 1024,
        ge=0,
        description="Memory of a client for query vectors that it has had before (16 MiB: 3,700 of 1,024 numbers); 0: none",
    )
    rerank_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Longest wait for the scores of a search's candidates, seconds"
    )
    job_ttl_s: int = Field(7 * 86_400, ge=60, description="How long a job's counters are kept once it has finished")
    tombstone_ttl_s: int = Field(
        7 * 86_400,
        ge=60,
        description="How long a deletion is remembered; must exceed the age of the oldest unfinished work",
    )

    @model_validator(mode="before")
    @classmethod
    def _remember_secrets(cls, values: Any) -> Any:
        """Before anything is looked at, so that no refusal tells them either."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if not isinstance(text, str):
                continue
            if name.endswith(_SECRETS):
                # Of several that sign webhooks, each; also without what all of them begin with.
                several = (each.rstrip(", ") for each in text.split("whsec_"))
                for part in {text, text.strip(" \r\n\t\"'`"), *_RUNS.findall(text), *several}:
                    remember(part)
            elif name in _ADDRESSES:
                remember_url(text)
        return values

    @field_validator("*")
    @classmethod
    def _clean_key(cls, value: Any) -> Any:
        """The one kind of setting that goes into headers."""
        return SecretStr(clean_key(value.get_secret_value())) if isinstance(value, SecretStr) else value

    @field_validator("redis_url")
    @classmethod
    def _redis_form(cls, value: str) -> str:
        RedisAddress.parse(url := value.strip())
        return url

    @field_validator("qdrant_url")
    @classmethod
    def _qdrant_form(cls, value: str) -> str:
        QdrantAddress.parse(url := value.strip())
        return url

    @field_validator("embedded_path")
    @classmethod
    def _embedded_form(cls, value: str | None) -> str | None:
        return cls._qdrant_form(value) if value and "://" in value else value

    @property
    def redis_address(self) -> RedisAddress:
        """Where Redis is."""
        return RedisAddress.parse(self.redis_url)

    @property
    def qdrant_address(self) -> QdrantAddress:
        """Where Qdrant is."""
        return QdrantAddress.parse(self.qdrant_url)

    @field_validator(*_ADDRESSES)
    @classmethod
    def _guard(cls, value: str | None) -> str | None:
        return None if value is None else Guarded(value)

    @field_serializer(*_ADDRESSES, when_used="json-unless-none")
    def _redacted(self, value: str) -> str:
        return redact(value)

    @classmethod
    def refusal(cls, error: ValidationError) -> InvalidInput:
        """The error for values that settings cannot be made of: every wrong one, what came and what was expected."""
        wrong = error.errors(include_url=False)
        lines = [f"{variable(str(item['loc'][0]))} {_problem(item)}" for item in wrong]
        return InvalidInput("settings: " + "; ".join(lines), field=str(wrong[0]["loc"][0]))


def load_settings(cls: type[S], **overrides: Any) -> S:
    """Read and validate settings; `overrides` (None means not given) win over the environment.

    Raises:
        InvalidInput: naming every setting that is wrong, what came and what was expected.
    """
    for sentence in mistyped():
        _warn_once(sentence)
    return cls(**_given(overrides))


@functools.cache
def _warn_once(sentence: str) -> None:
    log.warning("%s", sentence)


def mistyped() -> list[str]:
    """A sentence for each variable of the environment and of `.env` that is almost one of ours."""
    known = [variable(name) for name in {*names_of(ClientOptions), *names_of(EmbeddedOptions)}]
    given = {name.upper() for name in (*os.environ, *_EnvFile(ClientSettings).env_vars)}
    strange = sorted(name for name in given if name.startswith(ENV_PREFIX) and name not in known)
    close = ((name, difflib.get_close_matches(name, known, n=1, cutoff=0.9)) for name in strange)
    return [f"{name} is no setting and has no effect; did you mean {meant[0]}?" for name, meant in close if meant]


def combine(settings: ClientSettings | None, overrides: Mapping[str, Any]) -> ClientSettings:
    """Ready-made settings with single ones replaced; None reads the environment for all that is not overridden.

    Raises:
        InvalidInput: `settings` are none, or an override is wrong.
    """
    if settings is None:
        known = {name: value for name, value in overrides.items() if name in ClientSettings.model_fields}
        return load_settings(ClientSettings, **known)
    if not isinstance(settings, ClientSettings):
        hint = "; a single setting goes by its name, such as redis_url=…" if isinstance(settings, str) else ""
        raise InvalidInput(f"settings: expected ClientSettings, got {type(settings).__name__}{hint}", field="settings")
    chosen = {name: value for name, value in _given(overrides).items() if name in type(settings).model_fields}
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    checked = type(settings)(**values | chosen)
    # A copy, so that it stays known which settings somebody set.
    return settings.model_copy(update={name: getattr(checked, name) for name in chosen})


def _given(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in overrides.items() if value is not None}


def _problem(item: ErrorDetails) -> str:
    name, message = str(item["loc"][0]), expectation(item)
    if name.endswith(_SECRETS) and ", got " in message:
        return message  # it says of what kind; what came stays secret
    return f"{message}, got {_shown(name, item['input'])}"


def _shown(name: str, value: Any) -> str:
    """What came, without what may be a secret: a mistyped URL does not show where its password begins."""
    if name.endswith(_SECRETS):
        return HIDDEN
    if name in _ADDRESSES and isinstance(value, str) and not _INNOCENT.fullmatch(value):
        scheme, found, rest = value.partition("://")
        place = rest.rpartition("@")[2] if "@" in rest else ""
        return repr(f"{scheme}://{HIDDEN}{'@' * bool(place)}{place}" if found else HIDDEN)
    return redact(repr(value))[:200]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{ENV_PREFIX}{name}".upper()


def provenance(settings: ClientSettings, overridden: Collection[str] = ()) -> list[dict[str, str]]:
    """Every setting with its value (secrets hidden), the source it came from and what it means."""
    cls = type(settings)
    sources = [
        ("option", set(overridden)),
        ("environment", set(EnvSettingsSource(cls)())),
        (".env", set(_EnvFile(cls)())),
    ]
    rows = []
    for name, field in cls.model_fields.items():
        value = getattr(settings, name)
        rows.append(
            {
                "name": variable(name),
                "value": HIDDEN if isinstance(value, SecretStr) else redact("" if value is None else str(value)),
                "source": next((source for source, names in sources if name in names), "default"),
                "meaning": field.description or "",
            }
        )
    return rows
