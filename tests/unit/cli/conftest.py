"""A terminal of a chosen width and encoding, and what stands on it."""

import io
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from gristmill.cli.output import console, notes

_STYLES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.TextIOWrapper):
    """What a program writes to its terminal, or with `tty=False` into its pipe."""

    def __init__(self, encoding: str = "utf-8", *, tty: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    @property
    def written(self) -> str:
        """All that was written, styles included."""
        self.flush()
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)

    @property
    def picture(self) -> str:
        """All that was written, as it stands on the screen; anything that the terminal would obey but styles stays in it."""
        return "\n".join(line.rstrip() for line in _STYLES.sub("", self.written).split("\n"))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    """Put a terminal where stdout and stderr were; gives it."""

    def put(columns: int = 80, encoding: str = "utf-8", *, tty: bool = True, no_color: bool = False) -> Terminal:
        there = Terminal(encoding, tty=tty)
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE", "COLUMNS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        if tty:
            monkeypatch.setenv("COLUMNS", str(columns))
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr(sys, "stdout", there)
        monkeypatch.setattr(sys, "stderr", there)
        console.look()
        notes.look()
        return there

    yield put
    monkeypatch.undo()
    console.look()
    notes.look()
