"""What the commands print: tables and progress for people on stderr and stdout, or with `--json` one object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

#: Results. Progress and messages go to `notes`, so that pipes carry results only.
#: In a pipe there is no width to fit into, so tables are not folded there.
console = Console(width=None if sys.stdout.isatty() else 200)
notes = Console(stderr=True, width=None if sys.stderr.isatty() else 200)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def print_json(value: Any) -> None:
    """One JSON object, alone on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout."""
    grid = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(grid)


@contextmanager
def progress_bar(*, hidden: bool, count: ProgressColumn | None = None) -> Iterator[Progress]:
    """A progress display on stderr; it disappears where nobody looks (`--json`, pipes)."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        count or MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=notes,
        disable=hidden or not notes.is_terminal,
        transient=False,
    ) as progress:
        yield progress
