"""The supervisor: worker processes on this machine's accelerators, started again when they die.

A parent that loads nothing and so does not die with its children: a document that kills the process, an accelerator that
hangs or a broker that confuses Celery costs one restart, not the node.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from gristmill.extras import brought_by
from gristmill.probes.pulse import PULSE_S, Pulse, open_pulse
from gristmill.settings import variable
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.vital_threads import Exit

log = logging.getLogger(__name__)

#: Exit codes after which starting again cannot help: done, or a wrong call or setting.
_FINAL = (0, 2)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
#: A child that ran this long was healthy; the next pause is short again. A sick device may last longer than a start.
_HEALTHY_S, _CURED_S = 60.0, 600.0
_LOOK_S = 0.1
_LAST_PORT = 65_535
#: Names of models that run on no accelerator of this machine.
_ELSEWHERE = ("http://", "https://", "hash:", "card:", "overlap:")


def accelerators() -> list[str | None]:
    """One entry per worker process: a CUDA device index, or a single None where there is none. Loads no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [each.strip() for each in visible.split(",") if each.strip() not in ("", "-1")] or [None]
    devices = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
    return [str(index) for index in devices] or [None]


def placements(device: str, models: Sequence[str], processes: int | None) -> list[str | None]:
    """Which accelerator each worker process sees alone; None sees what this process sees.

    Args:
        device: as asked for. Only `auto` spreads over all accelerators; whoever names a device, means it.
        models: what is served; models that run elsewhere need no accelerator.
        processes: how many; None means one per accelerator. They take turns on the accelerators.
    """
    spread = device == "auto" and not all(model.startswith(_ELSEWHERE) for model in models)
    devices = accelerators() if spread else [None]
    return [devices[number % len(devices)] for number in range(processes or len(devices))]


def prepare(models: Sequence[str], revision: str | None) -> None:
    """See to it, once for all processes, that what they need is there: installed packages, and the files of each model.

    Raises:
        NotInstalled, ModelUnavailable: said once, and not by every process.
    """
    for model in models:
        if not model.startswith((*_ELSEWHERE, "random:")):
            with brought_by("worker", f"encoding with {model}"):
                _require("torch", "transformers")
                from gristmill_worker.encoder.model.find import locate
            locate(model, revision)


def _require(*names: str) -> None:
    """Without importing them: this process loads nothing that its children could die of."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class _Child:
    """One worker process and its restarts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._name = name
        self._pause_s = _FIRST_PAUSE_S
        self._start_at = 0.0
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        #: How often it was started again, by cause.
        self._restarts: Counter[str] = Counter()
        self.exit_code: int | None = None

    def look(self, draining: bool) -> None:
        """Start it if its time has come; note if it ended."""
        if self.exit_code is not None:
            return
        if self._process is None:
            if draining:
                self.exit_code = 0
            elif time.monotonic() >= self._start_at:
                self._started = time.monotonic()
                # A session of its own: Ctrl-C reaches the supervisor only, which passes it on once.
                told = [f"--restarts={json.dumps(self._restarts)}"] if self._restarts else []
                self._process = subprocess.Popen([*self._command, *told], env=self._environment, start_new_session=True)
        elif (code := self._process.poll()) is not None:
            self._ended(code, draining)

    def _ended(self, code: int, draining: bool) -> None:
        self._process = None
        if draining or code in _FINAL:
            self.exit_code = max(code, 0)
            return
        self._restarts[cause_of(code)] += 1
        if time.monotonic() - self._started > (_CURED_S if code == Exit.SICK else _HEALTHY_S):
            self._pause_s = _FIRST_PAUSE_S
        log.error("worker %s ended with %d; starting it again in %.1f s", self._name, code, self._pause_s)
        self._start_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def signal(self, number: int) -> None:
        """Pass a signal on."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def cause_of(code: int) -> str:
    """Why a process has to be started again, in a word, by its exit status."""
    if code < 0:
        return "killed"
    return Exit(code).name.lower() if code in {*Exit} else "error"


def ports(first: int | None, processes: int) -> list[int | None]:
    """The port of each process's metrics: the next one for each; none, or any free one, for all.

    Raises:
        InvalidInput: there are not so many.
    """
    last = (first or 0) + processes - 1
    if first and last > _LAST_PORT:
        raise InvalidInput(
            f"metrics_port: expected at most {_LAST_PORT - processes + 1}, since each of {processes} processes takes the "
            f"next, got {first}",
            field="metrics_port",
        )
    return [first + number if first else first for number in range(processes)]


def supervised_worker() -> list[str]:
    """The command for one worker process that ends with this one, whatever ends this one."""
    return [sys.executable, "-m", "gristmill", "worker", "--no-supervise", "--supervisor", str(os.getpid())]


def supervise(arguments: Sequence[str], devices: Sequence[str | None], metrics_port: int | None = None) -> int:
    """Run `gristmill worker --no-supervise ARGUMENTS…` once per entry of `devices` until SIGTERM, SIGINT or SIGHUP.

    Args:
        arguments: of `gristmill worker`.
        devices: see `placements`.
        metrics_port: of the first of them; see `ports`.

    Returns:
        0 after a clean stop; else the exit code of a child that cannot work.
    """
    command = [*supervised_worker(), *arguments]
    children = []
    for number, (device, port) in enumerate(zip(devices, ports(metrics_port, len(devices)), strict=True)):
        environment = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        if port is not None:
            environment[variable("metrics_port")] = str(port)
        children.append(_Child(command, environment, f"{number}" if device is None else f"{number} (CUDA {device})"))
    asked = passed_on = 0

    def stop(number: int, _: object) -> None:
        # The loop passes it on: this may run while a child is being started, which would never hear of it.
        nonlocal asked
        asked += 1

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP is under nohup
            signal.signal(number, stop)
    pulse, beats_at = open_pulse(), 0.0
    while any(child.exit_code is None for child in children):
        for _ in range(asked - passed_on):
            # Once: drain. Twice: the user has lost patience, and so do we.
            for child in children:
                child.signal(signal.SIGQUIT if passed_on else signal.SIGTERM)
            passed_on += 1
        for child in children:
            child.look(draining=asked > 0)
        if pulse is not None and time.monotonic() >= beats_at:
            beats_at = time.monotonic() + PULSE_S
            state = "draining" if asked else "supervising"
            pulse.beat(Pulse(os.getpid(), "supervisor", state, workers=len(children)))
        time.sleep(_LOOK_S)
    if pulse is not None:
        pulse.close()
    return max((child.exit_code or 0) for child in children)
