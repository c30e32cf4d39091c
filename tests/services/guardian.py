"""Ends processes whose starter is gone, whatever took it: a closed terminal, a SIGKILL, a crash.

The guardian is a process of its own that holds nothing but the reading end of a pipe. As long as the starter lives it is
told of processes, `+pid` and `-pid`; the kernel closes the pipe with the starter, and whatever has not been taken back ends
then: by SIGTERM, and by SIGKILL where that does not help.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

#: Between SIGTERM and SIGKILL.
_GRACE_S = 5.0


@contextlib.contextmanager
def guarded(pid: int) -> Iterator[None]:
    """End this process at the latest with ours, until the block is left."""
    watch(pid)
    try:
        yield
    finally:
        release(pid)


def watch(pid: int) -> None:
    """End this child at the latest with this process."""
    _tell(f"+{pid}")


def release(pid: int) -> None:
    """It has ended; its number may be another's soon."""
    _tell(f"-{pid}")


def _tell(what: str) -> None:
    pipe = _guardian().stdin
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError):
        pipe.write(f"{what}\n".encode())


@functools.cache
def _guardian() -> subprocess.Popen[bytes]:
    # In a session of its own: what the terminal sends to the starter must not reach it. Unbuffered: a pid is told or not.
    command = [sys.executable, "-I", "-S", __file__]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)
    atexit.register(started.communicate)
    return started


def _main() -> None:
    watched: dict[int, int] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line.startswith("+"):
            with contextlib.suppress(ProcessLookupError):
                watched[pid] = _handle(pid)
        elif (handle := watched.pop(pid, -1)) >= 0:
            os.close(handle)
    for what, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, 0.0)):
        for pid, handle in watched.items():
            _send(pid, handle, signal.SIGCONT)
            _send(pid, handle, what)
        until = time.monotonic() + wait_s
        while any(_send(*each, 0) for each in watched.items()) and time.monotonic() < until:
            time.sleep(0.05)


def _handle(pid: int) -> int:
    """Of the process, where the system has such things: a pid alone may be another's by the time it is needed."""
    return os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1


def _send(pid: int, handle: int, what: int) -> bool:
    """Send a signal; 0 only asks. Says whether there was somebody to take it."""
    try:
        if handle >= 0:
            signal.pidfd_send_signal(handle, what)
        else:
            os.kill(pid, what)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _main()
