"""The pulse of a process: a small file that it writes once a second, and that a probe reads without asking anybody.

Its writer holds a lock on it for as long as it lives, however it ends: a file without a lock is one of the dead, and neither
a process id that is used again nor a clock that is set can make it look alive.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: How often a process writes, seconds.
PULSE_S = 1.0
#: Longer than any pulse: it is written over in place, since the lock belongs to this very file.
_LENGTH = 2048
#: Reads of a file that is being written, before it is given up.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a process says of itself."""

    pid: int
    #: `worker`, or the `supervisor` that starts workers again.
    kind: str
    #: `starting`, `ready`, `waiting` (for a server), `draining`; of a supervisor `supervising` or `draining`.
    state: str
    #: Of a worker: the process id of its supervisor, if it has one.
    supervisor: int | None = None
    #: Of a supervisor: how many workers it keeps.
    workers: int = 0
    #: What it waits for, in a sentence.
    detail: str = ""
    #: What of it does not move any more, in a sentence; empty as long as it is well.
    ails: str = ""
    #: When this was written, seconds of the machine's monotonic clock.
    at: float = 0.0

    def age_s(self) -> float:
        """Seconds since it was written."""
        return time.monotonic() - self.at


class PulseFile:
    """The file of this process. One per process; forked children must not keep it."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open it and lock it; files of the dead are removed on the way.

        Raises:
            OSError: the folder cannot be made, or is somebody else's.
        """
        folder = folder or pulse_folder()
        _own(folder)
        for _ in read_pulses(folder):
            pass  # which removes those of the dead
        self.path = folder / f"{os.getpid()}.pulse"
        # It comes under its name once it is locked: whoever finds one without a lock takes it for one of the dead.
        unseen = self.path.with_suffix(".new")
        self._fd = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unseen.rename(self.path)

    def beat(self, pulse: Pulse) -> None:
        """Write how this process is, and that it is now."""
        said = asdict(pulse) | {"at": time.monotonic()}
        text = json.dumps(said)
        if len(text) > _LENGTH:
            text = json.dumps(said | {"detail": pulse.detail[:200], "ails": pulse.ails[:200]})
        os.pwrite(self._fd, text.encode().ljust(_LENGTH), 0)

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
        os.close(self._fd)


def open_pulse() -> PulseFile | None:
    """This process's pulse; None, said aloud, where there is no place for it: a worker works without."""
    try:
        return PulseFile()
    except OSError as error:
        import logging  # which a probe does without

        logging.getLogger(__name__).warning("`gristmill health` will not see this process: %s", error)
        return None


def pulse_folder() -> Path:
    """Where the pulses of this user's processes are: in the folder for temporary files, which containers keep writable."""
    return Path(tempfile.gettempdir()) / f"gristmill-{os.getuid()}"


def read_pulses(folder: Path | None = None) -> Iterator[Pulse]:
    """The pulses of all processes that live; files of others are removed.

    Raises:
        OSError: the folder may not be read.
    """
    folder = folder or pulse_folder()
    for path in sorted(folder.glob("*.pulse")) if folder.is_dir() else ():
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _lives(file.fileno()):
                yield _read(path)
            elif os.path.samestat(os.fstat(file.fileno()), path.stat()):  # not of the next process of this id
                path.unlink(missing_ok=True)


def _lives(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(path: Path) -> Pulse:
    known = {each.name for each in fields(Pulse)}
    for _ in range(_TRIES):
        with suppress(ValueError):
            said = json.loads(path.read_bytes())
            return Pulse(**{name: value for name, value in said.items() if name in known})
    return Pulse(pid=int(path.stem), kind="worker", state="starting", at=time.monotonic())


def _own(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(
            f"{folder}: expected a folder of this user's, found somebody else's; remove it, or set TMPDIR to another place"
        )
