"""A server as a child process: started, paused, killed and restarted on the same port and data.

Goes in: a data folder and what the subclass says about command, environment and readiness. Comes out: a process that
answers, or an error that ends with the server's own last words. Nothing sleeps: waiting for readiness waits on the
process, so a server that dies at start is reported at once and not after the deadline.
"""

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from services import guardian

#: Of a machine that is torn between many: one that dies is reported at once, whatever these say.
READY_TIMEOUT_S = 150.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.02
#: Below the ephemeral ranges of Linux (32768 up) and macOS (49152 up). A client that reconnects in a loop to a port
#: inside that range can be given the very same port as its source: it then talks to itself and blocks the restart.
PORTS = range(20_000, 32_000)


class ServerError(RuntimeError):
    """A server did not start, did not answer in time, or was driven in the wrong state."""


class ServiceMissing(ServerError):
    """The server's program is not on this machine; the message says how to get it."""


def _own_ports() -> range:
    """The share of `PORTS` of this process among those that test side by side."""
    testers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % testers
    size = len(PORTS) // testers
    return PORTS[number * size : (number + 1) * size]


_OWN_PORTS = _own_ports()
#: Where this process looks on: a port that was given to a server belongs to it while it is down, too.
_next_port = itertools.count(random.randrange(len(_OWN_PORTS)))


def free_port(together: int = 1) -> int:
    """Return a TCP port of the loopback interface on which nothing listens, or the first of so many in a row."""
    for _ in range(200):
        places = [next(_next_port) % len(_OWN_PORTS) for _ in range(together)]
        if places[-1] - places[0] == together - 1 and all(_is_free(_OWN_PORTS[place]) for place in places):
            return _OWN_PORTS[places[0]]
    raise ServerError(f"no free port between {_OWN_PORTS.start} and {_OWN_PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Say whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server(ABC):
    """One server process. As a context manager it is started, ready inside, and stopped at the end."""

    #: What the server is called in messages.
    name: ClassVar[str]

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.log_path = data_dir / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask the server itself, once and without waiting long, whether it can work."""

    def environment(self) -> dict[str, str]:
        """Return the environment of the process."""
        return dict(os.environ)

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._alive().pid

    def start(self) -> Self:
        """Start the process and wait until it answers. After `stop` or `kill`: same port, same data."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start the process without waiting for it."""
        if self.running:
            raise ServerError(f"{self.name} is running already")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.data_dir,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the tests first, and they stop their servers in order
            )
        guardian.watch(self._process.pid)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return once the server answers; raise `ServerError` when it dies or the time is over."""
        process = self._alive()
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if _exited(process, within_s=POLL_S):
                raise self._failure(f"exited with code {process.returncode} before it was ready")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"was not ready within {timeout_s:g} s")

    def stop(self) -> None:
        """End the server as an operator would (SIGTERM) and wait for it. Does nothing when it is not running."""
        if not self.running:
            return
        process = self._alive()
        process.send_signal(signal.SIGCONT)  # a paused process would never see the SIGTERM
        process.terminate()
        if not _exited(process, within_s=STOP_TIMEOUT_S):
            self.kill()
            raise self._failure(f"did not stop within {STOP_TIMEOUT_S:g} s of SIGTERM")
        guardian.release(process.pid)

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL). Does nothing when it is not running."""
        if self.running:
            process = self._alive()
            process.kill()
            process.wait()
            guardian.release(process.pid)

    def restart(self) -> None:
        """Stop and start again: same port, same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and nothing answers."""
        self._alive().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._alive().send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that the server wrote."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise self._failure("is not running")
        return self._process

    def _failure(self, what: str) -> ServerError:
        return ServerError(f"{self.name} {what}\n{self.log_tail()}".rstrip())


def changed(change: str, command: Sequence[str]) -> list[str]:
    """Return `python -m gristmill …` as a program that runs a statement before it begins."""
    program, _, _, *arguments = command
    return [program, "-c", f"{change}; from gristmill.cli.root import main; main()", *arguments]


def _exited(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        return False
    return True
