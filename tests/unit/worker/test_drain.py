"""A process that is asked to end does, wherever the signal finds it and whatever hangs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gristmill_worker.vital_threads import Exit

SCRIPT = """
import gc, logging, os, signal, sys, threading
from types import SimpleNamespace
from gristmill_worker.process.drain import Drain
from gristmill_worker.vital_threads import end_process, give_up, Exit

class Lost:
    def __del__(self):
        os.kill(os.getpid(), {number})
        for _ in range(100): pass  # Python looks for signals now and then

def lose_a_signal():
    Lost()

class Stuck(logging.Handler):
    def emit(self, record):
        threading.Event().wait()

def stick():
    logging.getLogger().addHandler(Stuck())
    logging.getLogger().setLevel("INFO")
    threading.Thread(target=logging.warning, args=("holds the lock",), daemon=True).start()

leases = SimpleNamespace(held=0, excuse=lambda: None, hand_back=lambda: None)
host = SimpleNamespace(drain=lambda: None, beat=lambda: None, engines={{}}, leases=leases)
"""


def status_of(script: str, number: str = "signal.SIGTERM") -> int:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(number=number) + script], capture_output=True, timeout=120, check=False
    )
    assert b"rror" not in ended.stderr.replace(b"KeyboardInterrupt", b""), ended.stderr.decode()
    return ended.returncode


@pytest.mark.parametrize("number", ["signal.SIGTERM", "signal.SIGINT"])
def test_who_is_asked_while_a_finalizer_runs_takes_nothing(number: str) -> None:
    """What the handler raises there is lost."""
    script = """
drain = Drain(1000)
with drain.heard():
    lose_a_signal()
    assert drain.asked
    drain.takes(host)
    sys.exit(9)
"""
    assert status_of(script, number) == 0


def test_who_goes_on_starting_ends_when_its_time_is_up() -> None:
    script = """
drain = Drain(0.1)
with drain.heard():
    lose_a_signal()
    threading.Event().wait()
"""
    assert status_of(script) == 0


def test_it_leaves_at_once_where_it_has_taken_nothing() -> None:
    script = """
drain = Drain(1000)
with drain.heard():
    threading.Timer(0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    threading.Event().wait()
"""
    assert status_of(script) == 0


def test_the_end_begins_whatever_lock_is_held_where_the_signal_comes() -> None:
    """A thread cannot be started there, and no event be set, nor anything be logged."""
    script = """
drain, event = Drain(0.1, lambda: 5), threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: drain.begin())
host.drain = event.set
with drain.heard():
    drain.takes(host)
    with threading._active_limbo_lock, event._cond:
        os.kill(os.getpid(), signal.SIGUSR1)
    threading.Event().wait()
"""
    assert status_of(script) == 5


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("give_up(Exit.HUNG, 'a batch hangs')", Exit.HUNG),
        ("end_process('model', ValueError('a bug'))", Exit.BROKEN),
        ("drain.begin(); threading.Event().wait()", 0),
    ],
)
def test_whoever_reads_the_log_may_hang(end: str, status: int) -> None:
    script = f"""
stick()
drain = Drain(0.1)
with drain.heard():
    drain.takes(host)
    {end}
"""
    assert status_of(script) == status


def test_nobody_waits_for_a_signal_when_the_block_is_left() -> None:
    script = """
drain = Drain(1000)
with drain.heard():
    [thread] = [each for each in threading.enumerate() if each.name == "gristmill-drain"]
thread.join()
"""
    assert status_of(script) == 0
