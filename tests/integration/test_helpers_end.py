"""Helpers end with whoever started them, whatever ends that: a terminal that closes, a SIGKILL, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services import find_qdrant, find_redis
from services.processes import family_of, lives
from waiting import eventually

pytestmark = [pytest.mark.server, pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")]
WITH_SERVERS = [sys.executable, str(Path(__file__).parents[2] / "scripts" / "with_servers.py")]
IN_A_TERMINAL = [sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"]
Family = list[int]


@contextmanager
def started(command: list[str], says: str) -> Iterator[tuple[subprocess.Popen[str], Family]]:
    """A command in a session of its own, and its family once it has said something."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    family: Family = []
    try:
        assert process.stdout is not None
        assert any(says in line for line in process.stdout), "it has ended before"
        family = family_of(process.pid)
        yield process, family
    finally:
        for pid in filter(lives, family):  # none, unless the test has failed
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


def close_the_terminal(process: subprocess.Popen[str]) -> None:
    """As when its window is closed: the end that the terminal holds goes away."""
    process.kill()


def interrupt(process: subprocess.Popen[str]) -> None:
    """As Ctrl-C does: to everybody in the foreground."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("terminal", "end"),
    [
        pytest.param(IN_A_TERMINAL, close_the_terminal, id="its terminal closes"),
        pytest.param([], interrupt, id="Ctrl-C"),
        pytest.param([], lambda process: process.send_signal(signal.SIGHUP), id="SIGHUP"),
        pytest.param([], lambda process: process.send_signal(signal.SIGTERM), id="SIGTERM"),
        pytest.param([], lambda process: process.send_signal(signal.SIGKILL), id="SIGKILL"),
    ],
)
def test_with_servers_leaves_nothing_behind(terminal: list[str], end: Callable[[subprocess.Popen[str]], None]) -> None:
    find_redis(), find_qdrant()
    busy = [sys.executable, "-c", "print('at work', flush=True); import time; time.sleep(600)"]
    with started([*terminal, *WITH_SERVERS, *busy], "at work") as (process, family):
        assert len(family) >= 5, "itself, two servers, their guardian, the command"
        end(process)
        eventually(lambda: not any(map(lives, family)), 60)


def test_with_servers_lets_its_command_decide_what_an_interrupt_means() -> None:
    patient = (
        "import signal; signal.signal(2, lambda *_: print('heard', flush=True)); print('at work', flush=True); input()"
    )
    with started([*WITH_SERVERS, sys.executable, "-c", patient], "at work") as (process, family):
        interrupt(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "heard\n"
        assert all(map(lives, family))
        process.communicate("\n")
        assert process.returncode == 0
        eventually(lambda: not any(map(lives, family)), 60)


def test_in_the_shell_of_with_servers_our_commands_are_found_though_nothing_was_activated() -> None:
    find_redis(), find_qdrant()
    bare = {**os.environ, "PATH": "/usr/bin:/bin"}
    shell = [*WITH_SERVERS, "sh", "-c", "command -v gristmill && command -v python"]
    done = subprocess.run(shell, env=bare, capture_output=True, text=True, check=False, timeout=200)
    ours = Path(sys.executable).parent
    assert done.stdout.splitlines() == [str(ours / "gristmill"), str(ours / "python")], done.stderr


def test_with_servers_says_in_a_sentence_which_server_is_missing() -> None:
    missing = {**os.environ, "QDRANT_BIN": "/nowhere/qdrant"}
    done = subprocess.run(
        [*WITH_SERVERS, "true"], env=missing, capture_output=True, text=True, check=False, timeout=200
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "make services" in done.stderr
    assert "Traceback" not in done.stderr


TESTER = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from services import RedisServer
server = RedisServer(pathlib.Path(sys.argv[2])).start()
if sys.argv[3] == "paused":
    server.pause()
print("started", flush=True)
input()
"""


@pytest.mark.parametrize("state", ["running", "paused"])
def test_the_tests_servers_end_with_the_tests(tmp_path: Path, state: str) -> None:
    find_redis()
    command = [sys.executable, "-c", TESTER, str(Path(__file__).parents[1]), str(tmp_path), state]
    with started(command, "started") as (process, family):
        assert len(family) == 3, "the tests, the server, its guardian"
        process.kill()
        eventually(lambda: not any(map(lives, family)), 60)
