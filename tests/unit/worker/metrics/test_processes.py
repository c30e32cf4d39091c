"""Several processes under one supervisor: a port for each, the same after a restart, and why it was one."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from gristmill.probes.health import Health
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.cli import _arguments
from gristmill_worker.doctor import _metrics
from gristmill_worker.process.metrics.port import MetricsPort, answers
from gristmill_worker.process.supervisor import cause_of, ports
from gristmill_worker.settings import WorkerSettings
from services import free_port


@pytest.mark.parametrize(
    ("first", "processes", "expected"),
    [(9464, 3, [9464, 9465, 9466]), (0, 2, [0, 0]), (None, 2, [None, None]), (65_535, 1, [65_535])],
)
def test_each_process_takes_the_next_port(first: int | None, processes: int, expected: list[int | None]) -> None:
    assert ports(first, processes) == expected


def test_ports_beyond_the_last_are_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidInput, match="expected at most 65532, since each of 4 processes takes the next"):
        ports(65_534, 4)


def test_a_restart_is_counted_by_its_cause() -> None:
    codes = {70: "hung", 71: "sick", 72: "broken", 73: "again", -9: "killed", 1: "error"}
    assert {code: cause_of(code) for code in codes} == codes


def test_the_supervisor_keeps_for_itself_what_each_process_gets_from_it() -> None:
    given = [
        "gristmill",
        "worker",
        "--metrics-port",
        "9464",
        "--model",
        "m",
        "--metrics-port=1",
        "--metrics-host",
        "::",
    ]
    assert _arguments(given) == ["--model", "m", "--metrics-host", "::"]


def test_doctor_says_whether_the_port_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where other workers of this machine say that they live
    assert list(_metrics(WorkerSettings())) == []
    (silent,) = _metrics(WorkerSettings(metrics_port=free_port()))
    assert not silent.ok
    assert "is a worker running here" in silent.detail
    with closing(MetricsPort("127.0.0.1", 0, answers([], lambda: Health(live=True, ready=True)))) as port:
        assert port.address is not None
        (found,) = _metrics(WorkerSettings(metrics_port=int(port.address.rpartition(":")[2])))
    assert (found.ok, found.detail) == (True, f"{port.address}/metrics answers")
