"""Processes of the benchmark: whatever is measured runs in one of its own, so that its CPU time is its alone.

A side is asked by one JSON line on its stdin and answers by one on its stdout. It ends when its stdin does, so it outlives
nobody; what libraries print goes to stderr. The terminal's Ctrl-C reaches the benchmark only, which ends its processes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gristmill_schemas import errors
from gristmill_schemas.errors import GristmillError

#: Between SIGTERM and SIGKILL.
_GRACE_S = 30.0
#: What a side does when it is asked.
Handler = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a side did."""

    #: Wall clock and CPU seconds of the side's process from the request to the answer.
    seconds: float
    cpu_s: float
    #: What it says itself.
    said: Mapping[str, Any]


class Side:
    """A side that runs; see `running_side`."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name = name
        self._process = process

    def start(self, **request: Any) -> None:
        """Ask without waiting."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` says so
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answer(self) -> Answer:
        """Wait for the answer.

        Raises:
            GristmillError: the side failed, as what it was there; or its process ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise GristmillError(f"the {self._name} side ended with {self._process.wait()}; what it said stands above")
        told = json.loads(line)
        if error := told.get("error"):
            raise getattr(errors, told["kind"], GristmillError)(f"the {self._name} side failed: {error}")
        return Answer(told["seconds"], told["cpu_s"], told["said"])

    def ask(self, **request: Any) -> Answer:
        """Ask, and wait for the answer."""
        self.start(**request)
        return self.answer()


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """A process until the block is left, in a session of its own: Ctrl-C is ours to pass on."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True, text=True, **streams)
    try:
        yield process
    except BaseException:
        process.kill()  # a worker would first finish what nobody wants any more
        raise
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@contextlib.contextmanager
def running_side(name: str, environment: Mapping[str, str], /, **options: Any) -> Iterator[Side]:
    """A side, which makes its preparations; its first answer says that they are made.

    Args:
        name: one of `sides.SIDES`.
        environment: beside ours.
        options: keyword arguments of what prepares it.
    """
    command = [sys.executable, "-m", "gristmill_worker.bench.pipeline.sides", name, json.dumps(options)]
    with running(command, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Side(name, process)


def serve(prepare: Callable[[], Handler]) -> None:
    """Be a side: prepare, say so, then answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(work: Callable[[], Mapping[str, Any]]) -> None:
        answers.write(json.dumps(_told(work)) + "\n")
        answers.flush()

    handlers: list[Handler] = []

    def make_ready() -> Mapping[str, Any]:
        handlers.append(prepare())
        return {}

    tell(make_ready)
    for line in sys.stdin:
        tell(functools.partial(handlers[0], **json.loads(line)))


def _told(work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    seconds, cpu_s = time.perf_counter(), time.process_time()
    try:
        said = work()
    except GristmillError as error:
        return {"error": str(error), "kind": type(error).__name__}
    except Exception as error:  # noqa: BLE001  # whatever it is, whoever asked says it
        return {"error": f"{type(error).__name__}: {error}", "kind": ""}
    return {"seconds": time.perf_counter() - seconds, "cpu_s": time.process_time() - cpu_s, "said": said}
