"""What a start is at, and for how long: importing, fetching, loading, measuring. Whoever waits for it sees it at once.

A phase is a line in the log when it begins, every few seconds while it lasts, and when it ends; whoever listens, such as
embedded mode for a person at a terminal, is told the same.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

#: Between two lines about a phase that goes on.
_AGAIN_S = 4.0
#: Shorter phases leave no line on a terminal once they are over.
_SHORT_S = 1.0


@dataclass(slots=True)
class Phase:
    """One stretch of a start."""

    name: str
    #: How far it is, where that is known.
    detail: str = ""
    seconds: float = 0.0
    over: bool = False
    failed: bool = False

    def __str__(self) -> str:
        if self.over:
            return f"{self.name}{': stopped after' if self.failed else ':'} {self.seconds:.1f} s"
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.name}{detail} … ({self.seconds:.0f} s)" if self.seconds >= _SHORT_S else f"{self.name}{detail} …"


#: Told of a phase when it begins, now and then while it lasts, and when it is over.
Listener = Callable[[Phase], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def phase(name: str, *, once: bool = False) -> Iterator[Callable[[str], None]]:
    """The block is a phase of this name; the function that it gets says how far it is.

    Args:
        name: what is being done, beginning with a participle.
        once: say that it is done once, and remembered.
    """
    here, listener = Phase(f"{name} (once)" if once else name), _listener.get()
    began, ended = time.monotonic(), threading.Event()

    def tell() -> None:
        here.seconds = time.monotonic() - began
        log.info("%s", str(here))  # a record may be read later, and this one goes on
        if listener is not None:
            listener(here)

    def go_on() -> None:
        while not ended.wait(_AGAIN_S):
            tell()

    def detail(text: str) -> None:
        here.detail = text

    tell()
    ticking = threading.Thread(target=go_on, name="gristmill-phase", daemon=True)
    ticking.start()
    try:
        yield detail
    except BaseException:
        here.failed = True
        raise
    finally:
        ended.set()
        ticking.join()
        here.over = True
        tell()


@contextmanager
def told_to(listener: Listener | None) -> Iterator[None]:
    """Phases of this block, in this thread, are told to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def shown(wanted: bool | None = None) -> Iterator[None]:
    """Show the phases of this block on stderr.

    Args:
        wanted: True shows them anywhere; None on a terminal and in a notebook; False never.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    watched = console.is_terminal or console.is_jupyter
    if wanted is False or (wanted is None and not watched):
        yield
        return
    with told_to(_Terminal(console) if console.is_terminal else _lines):
        yield


def _lines(phase: Phase) -> None:
    """A line each time, where nothing can be drawn over."""
    if not phase.over or phase.seconds >= _SHORT_S:
        sys.stderr.write(f"{phase}\n")
        sys.stderr.flush()


class _Terminal:
    """A line that moves while a phase lasts, and stays with its seconds once it is over."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._drawn: dict[int, Any] = {}

    def __call__(self, phase: Phase) -> None:
        drawn = self._drawn.pop(id(phase), None)
        if phase.over and drawn is not None:
            drawn.stop()
            if phase.seconds >= _SHORT_S:
                self._console.print(str(phase), style="dim", soft_wrap=True, markup=False)
            return
        if drawn is None:
            drawn = self._console.status(_Moving(phase))
            drawn.start()
        self._drawn[id(phase)] = drawn


class _Moving:
    """A phase with the seconds that it has lasted when it is drawn."""

    def __init__(self, phase: Phase) -> None:
        self._phase = phase
        self._began = time.monotonic() - phase.seconds

    def __rich__(self) -> Any:
        from rich.text import Text

        self._phase.seconds = time.monotonic() - self._began
        return Text(str(self._phase), style="dim", no_wrap=True, overflow="ellipsis")
