"""What runs on this machine, by Linux's `/proc`."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Processes that this one's main thread has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family_of(pid: int) -> list[int]:
    """The process and all that descend from it."""
    return [pid, *(each for child in children_of(pid) for each in family_of(child))]


def lives(pid: int) -> bool:
    """Whether the process is there; one that has ended and was not waited for is not."""
    return _state(pid) not in (None, "Z")


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    return _state(pid) == "T"


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
