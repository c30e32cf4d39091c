"""Where the servers of tests keep their files: in memory, where there is room, else on the disk.

A new collection is dozens of files, each of which Qdrant sees written down: on a disk it takes four to six times as long and
four times the CPU as in memory. A process that is killed finds the same files again in both.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from services.processes import lives

#: Files in memory, on Linux. Containers have 64 MiB of it unless they are given more.
_MEMORY = Path("/dev/shm")
#: For each process that runs tests, bytes. An empty collection takes 26 MiB, and a few dozen live at a time.
_ROOM = 1024**3
_PREFIX = "gristmill-test-"


def server_folder() -> TemporaryDirectory[str]:
    """A folder for the files of one test's servers, removed when the block is left."""
    return TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=_in_memory(), ignore_cleanup_errors=True)


@functools.cache
def _in_memory() -> Path | None:
    _remove_leftovers()
    testers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < testers * _ROOM:
        return None
    return _MEMORY


def _remove_leftovers() -> None:
    """Of tests that were killed: memory is too dear for them."""
    for folder in _MEMORY.glob(f"{_PREFIX}*-*"):
        if not lives(int(folder.name.removeprefix(_PREFIX).partition("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)
