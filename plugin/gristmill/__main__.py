"""The `gristmill` program, and `python -m gristmill`.

A probe runs many times an hour and must cost next to nothing: it is answered before the command line is loaded. A worker and
a command load a thousand modules, of which two things cost a fifth of a start and an end: a garbage collector that looks
through them again and again while they come, and an interpreter that takes them apart one by one before it goes.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

#: Objects made since, after which the garbage collector looks at them: a module brings hundreds, hardly any of them garbage.
_YOUNG_OBJECTS = 50_000


def main() -> None:
    """Entry point of the program; whoever calls it ends with its exit code."""
    if sys.argv[1:2] == ["health"]:
        from gristmill.probes.health import called

        if (code := called(sys.argv[2:])) is not None:
            sys.exit(code)
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    codes: list[int] = []
    atexit.register(_leave_at_once, codes)  # before any library's, so that it is called after them all
    from gristmill.cli.root import main as command_line

    try:
        command_line()
    except SystemExit as ended:
        codes += [ended.code] if isinstance(ended.code, int) else []
        raise


def _leave_at_once(codes: list[int]) -> None:
    """End the process, whose threads have ended and whose libraries have said goodbye; the system takes back the rest."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError, AttributeError):
        return  # Python ends such a process in its own way, with its own exit code
    for code in codes:
        os._exit(code)


if __name__ == "__main__":
    main()
