"""Phases of a start: said when they begin, while they last, and when they are over, on a terminal and off."""

import logging
import re
import subprocess
import sys

import pytest

from gristmill import Client
from gristmill_worker import phases
from gristmill_worker.phases import phase, shown, told_to
from waiting import eventually


def test_a_phase_is_told_of_when_it_begins_while_it_lasts_and_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "_AGAIN_S", 0.01)
    said: list[str] = []
    with told_to(lambda each: said.append(str(each))), phase("loading", once=True) as detail:
        assert said == ["loading (once) …"]
        detail("3 of 4")
        eventually(lambda: said[-1] == "loading (once): 3 of 4 …")
    assert re.fullmatch(r"loading \(once\): \d+\.\d s", said[-1])


def test_a_phase_that_is_stopped_says_so_and_the_error_goes_on() -> None:
    said: list[str] = []
    with told_to(lambda each: said.append(str(each))), pytest.raises(RuntimeError), phase("loading"):
        raise RuntimeError
    assert said[-1].startswith("loading: stopped after")


def test_phases_are_logged_for_whoever_sees_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gristmill_worker"), Client.embedded(model="hash:8"):
        pass
    assert "warming up hash:8 on cpu …" in caplog.messages


@pytest.mark.parametrize(("wanted", "lines"), [(True, 2), (None, 0), (False, 0)])
def test_off_a_terminal_phases_are_lines_where_they_are_asked_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wanted: bool | None, lines: int
) -> None:
    monkeypatch.setattr(phases, "_SHORT_S", 0.0)
    with shown(wanted), phase("loading"):
        pass
    assert len(capfd.readouterr().err.splitlines()) == lines


def test_a_model_that_is_not_there_is_said_once_and_no_process_is_started() -> None:
    command = [sys.executable, "-m", "gristmill", "worker", "--model", "/no/such", "--processes", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("no such folder") == 1
    assert "Traceback" not in done.stderr


def test_embedded_mode_takes_no_nonsense_for_progress() -> None:
    with pytest.raises(ValueError, match="progress: expected True or False, got 'loud'"):
        Client.embedded(model="hash:8", progress="loud")  # type: ignore[arg-type]  # that is the point
