"""The supervisor's own loop, with processes that do nothing in the place of workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill_worker.process.supervisor import supervise

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_that_comes_while_a_worker_is_being_started_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start = subprocess.Popen
    children: list[subprocess.Popen[bytes]] = []

    def started(_: list[str], **how: Any) -> subprocess.Popen[bytes]:
        children.append(start([sys.executable, "-c", "import signal; signal.pause()"], **how))
        os.kill(os.getpid(), signal.SIGTERM)  # its handler runs here, before anybody knows of the child
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", started)
    # One that hears of nothing would be waited for for ever.
    end = threading.Timer(60, lambda: children[0].kill())
    end.start()
    assert supervise([], [None, None]) == 0
    end.cancel()
    assert [child.returncode for child in children] == [-signal.SIGTERM], "and no second one was started"
