"""Where the commands print: results on stdout, progress and notes on stderr; with `--json` one object on stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console, ConsoleDimensions
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from gristmill.cli.terminal import json_text, one_line, sayable, visible
from gristmill_schemas.errors import InvalidInput

#: A pipe has no width to fit into: nothing is folded there unless COLUMNS asks for it.
_IN_A_PIPE = 200


class Screen(Console):
    """A console through which every text passes on its way out: nothing that a terminal would obey gets by as itself."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, emoji=False, highlight=False)

    def look(self) -> None:
        """See anew what is at the other end: a terminal or not, its colours."""
        self.__init__(stderr=self.stderr)  # type: ignore[misc]  # Rich detects there, and nowhere else

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines."""
        there = super().size
        asked = self._environ.get("COLUMNS", "").isdigit()
        return there if self.is_terminal or asked else ConsoleDimensions(_IN_A_PIPE, there.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size

    def render_str(self, text: str, **how: Any) -> Text:
        """As Rich's, of the text made visible, and in words that the stream's encoding has."""
        return super().render_str(sayable(visible(text), self.encoding), **how)


#: Results. Progress and messages go to `notes`, so that pipes carry results only.
console = Screen()
notes = Screen(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def said(value: object) -> str:
    """What came from outside, fit to stand in Rich's markup: on one line, and nothing in it is obeyed."""
    return escape(one_line(str(value)))


def say(text: str, to: Screen = console) -> None:
    """A sentence, with Rich's markup: broken between words on a terminal, nowhere in a pipe."""
    to.print(text, soft_wrap=not to.is_terminal)


def aside(text: str) -> None:
    """A note on stderr, whatever is in it."""
    say(said(text), notes)


def confirm(question: str) -> None:
    """Ask on stderr; anything but yes ends the command, and so does a place where nobody can answer."""
    if not sys.stdin.isatty():
        raise InvalidInput(f"{one_line(question)} Nobody can be asked here: expected a terminal, or --yes", field="yes")
    typer.confirm(one_line(question), abort=True, err=True)


def print_json(value: Any) -> None:
    """One JSON object, alone on stdout, whatever its encoding."""
    sys.stdout.write(json_text(value, sys.stdout.encoding, default=plain) + "\n")


class _Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(record.getMessage())


@contextmanager
def logged_by(name: str) -> Iterator[list[str]]:
    """What one logger says, INFO included, for a command that shows it in its own way; the log does not get it."""
    logger, handler = logging.getLogger(name), _Said()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.level, logger.propagate = logging.INFO, False
    try:
        yield handler.sentences
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def plain(value: Any) -> Any:
    """A record, as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


@contextmanager
def progress_bar(*, hidden: bool, count: ProgressColumn | None = None, left: bool = True) -> Iterator[Progress]:
    """A progress display on stderr; it disappears where nobody looks (`--json`, pipes).

    Args:
        hidden: show nothing.
        count: how far it is; how many of how many by default.
        left: show the time that is left, by the rate of the bar itself.
    """
    with Progress(
        SpinnerColumn("dots" if notes.encoding.startswith("utf") else "line"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        count or MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        *([TimeRemainingColumn()] if left else []),
        console=notes,
        expand=True,
        disable=hidden or not notes.is_terminal,
        transient=False,
    ) as progress:
        yield progress
