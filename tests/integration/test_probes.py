"""`gristmill health` beside a real, supervised worker: while it starts, works, loses Redis, dies and drains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.settings import variable
from services import QdrantServer, RedisServer, WorkerProcess
from waiting import eventually

pytestmark = pytest.mark.server


class SupervisedWorker(WorkerProcess):
    """`gristmill worker`, which starts its process again."""

    def command(self) -> list[str]:
        return [each for each in super().command() if each != "--no-supervise"]


def test_a_probe_follows_a_worker_through_its_life(
    make_redis: Callable[..., RedisServer], qdrant_server: QdrantServer, tmp_path: Path
) -> None:
    redis = make_redis()
    settings = {"redis_url": redis.url, "qdrant_url": qdrant_server.url, "qdrant_grpc_port": qdrant_server.grpc_port}
    environment = {variable(name): str(value) for name, value in settings.items()} | {"TMPDIR": str(tmp_path)}

    def health(*options: str) -> tuple[int, dict[str, Any]]:
        call = [sys.executable, "-m", "gristmill", "health", "--json", *options]
        done = subprocess.run(
            call, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    def ready() -> int | None:
        """The process id of the worker, once it is ready."""
        code, said = health("--ready")
        assert said["live"]
        return next(each["pid"] for each in said["processes"] if each["kind"] == "worker") if code == 0 else None

    assert health("--live")[0] == 1
    with SupervisedWorker(tmp_path / "worker", environment):
        first = eventually(ready, 60)
        redis.stop()
        eventually(lambda: health("--ready")[0] == 1)
        code, said = health("--live")
        assert (code, said["live"], said["ready"]) == (0, True, False)
        redis.start()
        assert eventually(ready, 60) == first
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: (again := ready()) != first and again, 60)
    code, said = health("--live")
    assert (code, said["processes"]) == (1, [])
