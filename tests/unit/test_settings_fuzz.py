"""Random and mutated settings, by name, by variable and in a `.env` file: made, or refused by a sentence that names them."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

import fuzzing
from gristmill import Client, ClientSettings, InvalidInput
from gristmill.settings import ENV_PREFIX, variable
from gristmill_worker.settings import WorkerSettings

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")

VALID: dict[str, list[Any]] = {
    "redis_url": [
        "redis://app:pw@host:6379/0", "rediss://host:6380/1?ssl_cert_reqs=none", "unix:///run/redis.sock?db=2",
        "sentinel://a:1,b:2/0?master_name=m", "redis://[::1]:6379", "redis://host?socket_timeout=5&protocol=3",
    ],
    "qdrant_url": ["http://host:6333", "https://app:pw@host/prefix", "http://[::1]:6333"],
    "embedded_path": [":memory:", "/srv/mill", "http://host:6333"],
    "model": ["Qwen/Qwen3-Embedding-0.6B", "https://app:pw@host/v1#m", "hash:16"],
    "qdrant_api_key": ["sk-q9Zx73lmWkk11"],
    "remote_api_key": ["sk-q9Zx73lmWkk11"],
    "device": ["auto", "cuda:1"],
    "dtype": ["float32"],
    "pooling": ["mean"],
    "key_prefix": ["mill-2"],
}  # fmt: skip
PIECES = [
    "@",
    ":",
    "/",
    "//",
    "#",
    "?",
    "&",
    "%",
    "%zz",
    "%00",
    "[",
    "]",
    "::",
    ",",
    ";",
    "=",
    "\\",
    "..",
    "0",
    "-1",
    "99999",
]


def changed(rng: random.Random, value: Any) -> Any:
    """A value with a change, or something else altogether."""
    if not isinstance(value, str) or rng.random() < 0.3:
        return fuzzing.value(rng)
    at = rng.randrange(len(value) + 1)
    piece = rng.choice((*PIECES, *fuzzing.STRINGS))
    return rng.choice(
        (value[:at] + piece + value[at:], value[:at], value[at:], value[:at] + piece, value * 2, value.upper())
    )


def some(rng: random.Random, cls: type[ClientSettings]) -> dict[str, Any]:
    """A few settings, mostly with a change."""
    names = rng.sample(sorted(cls.model_fields), rng.choice((1, 1, 1, 2, 4)))
    picked = {name: rng.choice(VALID.get(name, [1, 5.0, "7", True])) for name in names}
    return {name: value if rng.random() < 0.1 else changed(rng, value) for name, value in picked.items()}


def wrong_with(error: Exception, names: list[str]) -> str | None:
    """What is wrong with a refusal of settings of these names."""
    said = str(error)
    if not isinstance(error, InvalidInput):
        return f"{type(error).__name__}: {said[:200]}"
    if not any(variable(name) in said for name in names) and ".env" not in said:
        return f"names no variable of {names}: {said[:200]}"
    return (
        None
        if error.field in (*names, ".env", None) and "Traceback" not in said and said.isprintable()
        else f"no sentence: {said!r:.300}"
    )


def attempt(cls: type[ClientSettings], values: dict[str, Any], names: list[str]) -> str | None:
    try:
        made = cls(**values)
        if {"redis_url", "qdrant_url"}.intersection(names) and made.embedded_path is None:
            Client(made).close()
    except Exception as error:
        return wrong_with(error, names)
    return None


@pytest.mark.parametrize("cls", [ClientSettings, WorkerSettings])
def test_any_setting_by_name_is_taken_or_refused_by_its_variable(cls: type[ClientSettings]) -> None:
    rng = random.Random(fuzzing.SEED)
    wrong = []
    for number in range(fuzzing.COUNT // 2):
        values = some(rng, cls)
        if (what := attempt(cls, values, list(values))) is not None:
            wrong.append(f"{number}: {values!r:.300} → {what}")
    assert wrong[:5] == []


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_any_environment_is_taken_or_refused_by_its_variable(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = random.Random(fuzzing.SEED)
    wrong = []
    for number in range(fuzzing.COUNT // 2):
        values = {variable(name): as_text(value) for name, value in some(rng, WorkerSettings).items()}
        names = [name.removeprefix(ENV_PREFIX).lower() for name in values]
        with monkeypatch.context() as there:
            if place == "environment":
                for name, value in values.items():
                    there.setenv(name, value)
            else:
                lines = "".join(f"{name}={value}\n" for name, value in values.items()).encode(
                    "utf-8", "surrogateescape"
                )
                (tmp_path / ".env").write_bytes(fuzzing.damaged(rng, lines) if rng.random() < 0.3 else lines)
                names = sorted(WorkerSettings.model_fields)
            if (what := attempt(WorkerSettings, {}, names)) is not None:
                wrong.append(f"{number}: {values!r:.300} → {what}")
    assert wrong[:5] == []


def as_text(value: Any) -> str:
    """As an operating system can hold it: no NUL, and what is no UTF-8 as Python reads that."""
    raw = str(value).replace("\0", "").encode("utf-8", "surrogatepass")[:20_000]
    return os.fsdecode(raw)
