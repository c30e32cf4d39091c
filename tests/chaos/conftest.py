"""Options and fixtures of the chaos suite; `docs/explanation/chaos.md` says how to run it against your own deployment."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from chaos.device import Ward
from chaos.mill import Conclude, MakeMill, Mill, Target, own_servers, shell
from chaos.verdict import Verdict

TOTAL = Verdict()
RAN: list[str] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of a run that had chaos in it: one JSON object."""
    if RAN:
        sys.stdout.write(json.dumps(asdict(TOTAL)) + "\n")


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """Printed with every failure; `--chaos-seed` repeats a run's choices."""
    chosen = int(pytestconfig.getoption("--chaos-seed"))
    sys.stdout.write(f"chaos seed {chosen}\n")
    return chosen


@pytest.fixture
def target(pytestconfig: pytest.Config, redis_available: None) -> Iterator[Target]:
    """The servers to be broken."""
    redis_url = pytestconfig.getoption("--chaos-redis-url")
    with ExitStack() as closing:
        if redis_url is None:
            yield own_servers(closing)
        else:
            yield Target(
                redis_url,
                pytestconfig.getoption("--chaos-qdrant-url"),
                int(pytestconfig.getoption("--chaos-qdrant-grpc-port")),
                shell(pytestconfig.getoption("--chaos-restart-redis")),
                shell(pytestconfig.getoption("--chaos-restart-qdrant")),
            )


@pytest.fixture
def redis_available(make_redis: Callable[..., object], make_qdrant: Callable[..., object]) -> None:
    """Only so that a missing server skips locally and fails in CI, as everywhere."""


@pytest.fixture
def mill(target: Target, seed: int, tmp_path: Path) -> MakeMill:
    """Make a mill: `mill(workers=4)`."""

    def make(workers: int, **options: object) -> Mill:
        prefix = f"chaos-{uuid.uuid4().hex[:8]}"
        return Mill(target, prefix, workers, seed, log_path=tmp_path / "workers.log", **options)  # type: ignore[arg-type]  # passed on

    return make


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    """Makes the devices of those workers ill that get its environment."""
    return Ward(tmp_path / "ward")


@pytest.fixture
def conclude(request: pytest.FixtureRequest) -> Conclude:
    """Report a scenario's verdict and hold it against the promises."""

    def check(verdict: Verdict) -> None:
        RAN.append(request.node.name)
        TOTAL.add(verdict)
        sys.stdout.write(f"{request.node.name}: {json.dumps(asdict(verdict))}\n")
        assert verdict.sound, verdict

    return check
