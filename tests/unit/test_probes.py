"""The pulse files of processes, and what a probe says of them. No worker, no server."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gristmill.probes.health import STALE_S, Health, called, judge
from gristmill.probes.pulse import Pulse, PulseFile, read_pulses


def worker(state: str = "ready", *, pid: int = 7, age_s: float = 0.0, detail: str = "", ails: str = "") -> Pulse:
    return Pulse(pid, "worker", state, supervisor=3, detail=detail, ails=ails, at=-age_s)


def supervisor(workers: int = 1, state: str = "supervising") -> Pulse:
    return Pulse(3, "supervisor", state, workers=workers)


def judged_now(*pulses: Pulse) -> Health:
    """Of pulses whose time is counted from now: parameters are made long before their test runs."""
    return judge([replace(each, at=time.monotonic() + each.at) for each in pulses])


def test_a_warm_worker_and_its_supervisor_are_live_and_ready() -> None:
    health = judged_now(supervisor(), worker())
    assert (health.live, health.ready, health.findings) == (True, True, [])


@pytest.mark.parametrize(
    ("pulses", "said"),
    [
        ([supervisor(), worker("starting")], "worker 7 is starting"),
        ([supervisor(), worker("waiting", detail="Qdrant is away")], "worker 7 is waiting: Qdrant is away"),
        ([supervisor(), worker("draining")], "worker 7 is draining"),
        ([supervisor(2), worker()], "supervisor 3: 1 of its 2 workers are there"),
        ([supervisor(1)], "supervisor 3: 0 of its 1 workers are there"),
        ([supervisor(1, "draining"), worker()], "supervisor 3 is draining"),
        ([worker(), worker("starting", pid=8)], "worker 8 is starting"),
    ],
)
def test_whoever_takes_no_work_yet_is_live_but_not_ready(pulses: list[Pulse], said: str) -> None:
    health = judged_now(*pulses)
    assert (health.live, health.ready, health.findings) == (True, False, [said])


@pytest.mark.parametrize(
    ("pulse", "said"),
    [
        (worker(age_s=STALE_S + 100), r"has not moved for \d{3} s"),
        (worker("starting", age_s=STALE_S + 100), r"has not moved for \d{3} s"),
        (worker(ails="watches have not been kept for 60 s"), "worker 7: watches have not been kept for 60 s"),
    ],
)
def test_whoever_does_not_move_is_neither_live_nor_ready(pulse: Pulse, said: str) -> None:
    health = judged_now(supervisor(), pulse)
    assert (health.live, health.ready) == (False, False)
    assert re.search(said, health.findings[0])


def test_nobody_is_neither_and_says_how_to_start() -> None:
    health = judge([])
    assert (health.live, health.ready) == (False, False)
    assert "gristmill worker --model" in health.findings[0]


def test_a_pulse_is_read_as_it_was_written_and_shrinks_and_grows(tmp_path: Path) -> None:
    file = PulseFile(tmp_path / "pulses")
    for detail in ("é" * 300, "", "x" * 100_000):
        file.beat(worker(detail=detail))
        (read,) = read_pulses(tmp_path / "pulses")
        assert (read.pid, read.state, read.supervisor) == (7, "ready", 3)
        assert detail.startswith(read.detail[:200])
        assert read.age_s() < STALE_S
    file.close()
    assert list(read_pulses(tmp_path / "pulses")) == []


def test_the_pulse_of_a_killed_process_counts_for_nothing_though_its_id_lives_on(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from gristmill.probes.pulse import Pulse, PulseFile\n"
        "file = PulseFile(pathlib.Path(sys.argv[1])); file.beat(Pulse(1, 'worker', 'ready'))\n"
        "print('beating', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "beating\n"
        assert [each.pid for each in read_pulses(tmp_path)] == [1]
        other.kill()
        other.wait()
    assert list(read_pulses(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_whoever_looks_while_a_process_begins_does_not_take_it_for_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_lock = fcntl.flock

    def lock(fd: int, how: int) -> None:
        if how & fcntl.LOCK_EX:  # a process begins: the others' probes come just before it
            list(read_pulses(tmp_path))
        plain_lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    file = PulseFile(tmp_path)
    file.beat(worker())
    assert [each.pid for each in read_pulses(tmp_path)] == [7]
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_dead_process_is_removed_and_not_that_of_the_next_one_of_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{os.getpid()}.pulse").write_text("of a dead one")
    plain_lock = fcntl.flock
    begun: list[PulseFile] = []

    def lock(fd: int, how: int) -> None:
        plain_lock(fd, how)
        if how & fcntl.LOCK_SH:  # a probe has opened it, and the next process begins
            monkeypatch.setattr(fcntl, "flock", plain_lock)
            begun.append(PulseFile(tmp_path))

    monkeypatch.setattr(fcntl, "flock", lock)
    list(read_pulses(tmp_path))
    assert [each.pid for each in read_pulses(tmp_path)] == [os.getpid()]
    begun[0].close()


def test_a_folder_that_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "pulses").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="expected a folder of this user's"):
        PulseFile(tmp_path / "pulses")


def test_fields_of_a_newer_release_are_passed_over(tmp_path: Path) -> None:
    file = PulseFile(tmp_path)
    said = {"pid": 7, "kind": "worker", "state": "ready", "at": time.monotonic(), "mood": "bright"}
    os.pwrite(os.open(file.path, os.O_WRONLY), json.dumps(said).encode().ljust(2048), 0)
    (read,) = read_pulses(tmp_path)
    assert (read.pid, read.state) == (7, "ready")
    file.close()


@pytest.mark.parametrize("arguments", [["--help"], ["--live", "--ready"], ["--liv"], ["--json", "--json"], ["now"]])
def test_the_short_way_leaves_unusual_calls_to_the_command_line(arguments: list[str]) -> None:
    assert called(arguments) is None
