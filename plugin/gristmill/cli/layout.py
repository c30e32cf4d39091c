"""How results stand on a screen of any width: a list with names before its values, rows as a table where they fit.

Nothing is cut and no number or heading is ever folded. Cells are what came from outside and pass through `said`; a cell that
is a `Mark` is our own words, with Rich's markup.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.padding import Padding
from rich.table import Table

from gristmill.cli.output import console, said, say

#: Room that prose gets beside the other columns; with less, rows stand below one another.
_PROSE = 30
_GAP = 2
_INDENT = 2


class Mark(str):
    """Text of our own, with Rich's markup in it; what comes from outside has passed through `said` before."""

    __slots__ = ()


def counted(count: int, noun: str) -> str:
    """`1 document`, `1,500 documents`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time as people say it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller, step in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // step
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def age(since: float | None, now: float) -> str:
    """How long ago something was, coarse enough for a list; empty where it is not known."""
    if since is None:
        return ""
    passed = now - since
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if passed >= size:
            return f"{int(passed // size)} {unit} ago"
    return "now"


def fields(pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
    """Names and values below one another; long values go on below themselves. What is None is left out."""
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if value is not None:
            grid.add_row(said(name), cell(value))
    if grid.row_count:
        console.print(Padding(grid, (0, 0, 0, _INDENT), expand=False))


def flat(record: Mapping[str, Any], times: Collection[str] = ()) -> Iterator[tuple[str, object]]:
    """A record's fields for `fields`: what is inside another stands behind its name; empty ones are left out.

    Args:
        record: of JSON values.
        times: names of fields that hold seconds since 1970.
    """
    for name, value in record.items():
        told = name.replace("_", " ")
        if name in times:
            yield told, moment(value)
        elif isinstance(value, Mapping):
            yield from ((f"{told} {inner}", rest) for inner, rest in flat(value))
        elif isinstance(value, list | tuple):
            yield (
                told,
                ", ".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in value)
                or None,
            )
        elif value not in (None, ""):
            # No thousands: versions are names.
            yield told, value if isinstance(value, bool) else str(value)


def moment(seconds: float | None) -> str:
    """A time since 1970 as a date in UTC; empty where it is not known."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def listing(columns: Sequence[str], rows: Sequence[Sequence[object]], *, prose: bool = False) -> None:
    """Rows of records: a table where it fits, else each record below the other; in a pipe always a line for each.

    Args:
        columns: the headings.
        rows: a cell for each column.
        prose: whether the last column is sentences, which may be broken between words.
    """
    told = [[cell(value) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *told, strict=True)]
    whole = sum(widths) + _GAP * (len(widths) - 1)
    least = whole - widths[-1] + min(widths[-1], _PROSE) if prose else whole
    if not console.is_terminal:
        _table(columns, rows, told, whole)
    elif least <= console.width:
        _table(columns, rows, told, None)
    elif prose and max(map(_heading_width, told)) <= console.width:
        _prose_below(told)
    else:
        _below_one_another(columns, told)


def _heading_width(row: list[str]) -> int:
    return _width(_heading(row))


def _heading(row: list[str]) -> str:
    return (" " * _GAP).join((f"[bold]{row[0]}[/]", *filter(None, row[1:-1])))


def _prose_below(told: list[list[str]]) -> None:
    for row in told:
        say(_heading(row))
        console.print(Padding(row[-1], (0, 0, 0, _INDENT), expand=False))


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], told: list[list[str]], width: int | None) -> None:
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        counts = all(isinstance(row[number], int) for row in rows)
        last = number == len(columns) - 1
        grid.add_column(column, justify="right" if counts else "left", no_wrap=not last, overflow="fold")
    for row in told:
        grid.add_row(*row)
    console.print(grid, width=width, crop=False)


def _below_one_another(columns: Sequence[str], told: list[list[str]]) -> None:
    for first, *rest in told:
        say(f"[bold]{first}[/]")
        fields((name, Mark(value)) for name, value in zip(columns[1:], rest, strict=True) if value)


def cell(value: object) -> str:
    """A value as markup."""
    if isinstance(value, Mark):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else said(value)


def _width(markup: str) -> int:
    return console.render_str(markup).cell_len
