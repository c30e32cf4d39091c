"""Duties and watches: what fails is tried again and disturbs nobody; a process that cannot go on ends itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from gristmill_schemas.errors import BrokerUnavailable
from gristmill_worker.process.duties import Duties
from gristmill_worker.vital_threads import Exit
from waiting import eventually


@pytest.fixture
def perform() -> Iterator[Callable[..., None]]:
    with ExitStack() as closing:

        def start(**duties: Callable[[], None]) -> None:
            made = Duties("test", {name: (0.01, duty) for name, duty in duties.items()})
            closing.callback(made.close)
            made.start()

        yield start


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), RuntimeError("a bug")])
def test_a_duty_that_fails_is_tried_again_and_disturbs_no_other(perform: Callable[..., None], error: Exception) -> None:
    tries: list[int] = []
    looks: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise error

    perform(fails=fail, works=lambda: looks.append(1))
    eventually(lambda: len(looks) > 2 and len(tries) > 2)


def exit_status(script: str) -> int:
    return subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL, check=False).returncode


IMPORTS = "import itertools, time; from gristmill_worker.process.watches import StallWatch, hung_watch, sick_watch; "


@pytest.mark.parametrize(
    ("look", "status"),
    [
        ("hung_watch(lambda: time.monotonic() - 11, 10)()", Exit.HUNG),
        ("hung_watch(time.monotonic, 10)()", 0),
        ("hung_watch(lambda: None, 10)()", 0),
        ("sick_watch(lambda: 'the canary died', lambda: None)()", Exit.SICK),
        ("sick_watch(lambda: 'the canary died', lambda: time.sleep(60), 0.1)()", Exit.SICK),
        ("sick_watch(lambda: None, lambda: None)()", 0),
        ("w = StallWatch(lambda: 1, lambda: 0, lambda: 7, -1.0); w(); w()", Exit.HUNG),
        ("w = StallWatch(lambda: 1, lambda: 0, itertools.count().__next__, -1.0); w(); w(); w()", 0),
        ("w = StallWatch(lambda: 1, lambda: 1, lambda: 7, -1.0); w()", 0),
        ("w = StallWatch(lambda: 0, lambda: 0, lambda: 7, -1.0); w()", 0),
    ],
)
def test_a_watch_ends_the_process_when_it_cannot_go_on_and_only_then(look: str, status: int) -> None:
    assert exit_status(IMPORTS + look) == status


def test_a_vital_thread_that_dies_ends_a_worker_process() -> None:
    script = (
        "import threading; from gristmill_worker.vital_threads import end_process, vital_thread\n"
        "class Panic(BaseException): pass\n"
        "def run(): raise Panic('in native code')\n"
        "vital_thread('model', run, end_process).start(); threading.Event().wait(30)"
    )
    assert exit_status(script) == Exit.BROKEN
