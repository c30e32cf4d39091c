"""A worker that is asked to end while it starts, when what the signal's handler raises is lost: it ends all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from gristmill.settings import variable
from services import QdrantServer, RedisServer

# Whole processes: too slow for `make check`.
pytestmark = pytest.mark.server

#: As in a finalizer that the garbage collector runs, there is nobody to take the exception.
SCRIPT = """
import os, signal
from celery import signals
from gristmill.settings import load_settings
from gristmill_worker.process.app import run_worker
from gristmill_worker.settings import WorkerSettings

class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100): pass  # Python looks for signals now and then

def lose_a_signal(*_, **__):
    Lost()

when = {when!r}
if when == "celery starts":
    signals.celeryd_init.connect(lose_a_signal)
run_worker(load_settings(WorkerSettings, model="hash:8"), ready=lose_a_signal if when == "ready" else None)
"""


@pytest.mark.parametrize(("when", "taken"), [("ready", False), ("celery starts", True)])
def test_it_ends(
    when: str, taken: bool, make_redis: Callable[..., RedisServer], make_qdrant: Callable[..., QdrantServer]
) -> None:
    redis, qdrant = make_redis(), make_qdrant()
    settings = {"redis_url": redis.url, "qdrant_url": qdrant.url, "qdrant_grpc_port": qdrant.grpc_port}
    ended = subprocess.run(
        [sys.executable, "-c", "import logging; logging.basicConfig(level='INFO')" + SCRIPT.format(when=when)],
        # Longer than this test waits: it is not the drain's clock that ends it.
        env={**os.environ, variable("drain_timeout_s"): "3600", **{variable(k): str(v) for k, v in settings.items()}},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Exception ignored in" in ended.stderr, "the signal was lost"
    assert ended.returncode == 0, ended.stderr
    assert ("ready." in ended.stderr) is taken
