"""`gristmill collections wait|begin-bulk|finish-bulk`: the index of vectors, put off for a load and built at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gristmill import Client, IndexState, IndexStatus
from gristmill.cli.jobs import Lines
from gristmill.cli.layout import counted, duration
from gristmill.cli.output import JsonFlag, aside, notes, print_json, progress_bar, said, say
from gristmill.startup import open_client

app = typer.Typer()

_DESCRIBED = {
    IndexState.READY: "ready",
    IndexState.BUILDING: "being built",
    IndexState.DEFERRED: "put off for a bulk load",
    IndexState.FAILED: "failed",
}


@app.command()
def wait(
    name: str,
    timeout_s: Annotated[float | None, typer.Option(help="Longest wait, seconds.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow a collection's index until it is built. Ctrl-C leaves; Qdrant goes on."""
    with open_client(aside, redis=False) as client:
        _print(watch_index(client, name, hidden=as_json, timeout_s=timeout_s), as_json)


@app.command("begin-bulk")
def begin_bulk(
    name: str,
    for_s: Annotated[float, typer.Option(help="For how long at most, seconds; longer while it is loaded.")] = 3600.0,
    as_json: JsonFlag = False,
) -> None:
    """Put a collection's index off, for loads from several places."""
    with open_client(aside) as client:
        client.begin_bulk(name, for_s=for_s)
        _print(client.collections.index_status(name), as_json)
    if not as_json:
        how = f"gristmill collections finish-bulk {said(name)}"
        say(f"for {duration(for_s)}, and longer while documents are on their way; `{how}` ends it", notes)


@app.command("finish-bulk")
def finish_bulk(
    name: str,
    wait: Annotated[bool, typer.Option(help="Wait until the index is built.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Although others are still loading.")] = False,
    timeout_s: Annotated[float | None, typer.Option(help="Longest wait, seconds.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Switch a collection's index on again after a bulk load, and follow it until it is built."""
    with open_client(aside) as client:
        status = client.finish_bulk(name, wait=False, force=force)
        if wait:
            status = watch_index(client, name, hidden=as_json, timeout_s=timeout_s)
        _print(status, as_json)


def _print(status: IndexStatus, as_json: bool) -> None:
    if as_json:
        print_json(status)
    else:
        say(f"[bold]{said(status.collection)}[/]: index {said(told(status))}")


def told(status: IndexStatus) -> str:
    """`ready, 30,000 of 30,720 points in it`."""
    if not status.points:
        return f"{_DESCRIBED[status.state]}, no points yet"
    small = status.state is IndexState.READY and status.indexed < status.points
    why = "; the others lie in segments too small to need one" if small else ""
    return f"{_DESCRIBED[status.state]}, {status.indexed:,} of {counted(status.points, 'point')} in it{why}"


def watch_index(client: Client, name: str, *, hidden: bool, timeout_s: float | None = None) -> IndexStatus:
    """Wait until a collection's index is built, and show how far it is: as a bar on a terminal, elsewhere as lines.

    Raises:
        WaitTimeout: the time is over.
        KeyboardInterrupt: Ctrl-C; it says what goes on and how to see it again.
    """
    last: list[IndexStatus] = []
    try:
        with progress_bar(hidden=hidden) as bar:
            line = bar.add_task("indexing", total=None, note="")
            lines = Lines(hidden=hidden or notes.is_terminal)

            def look(status: IndexStatus) -> None:
                last[:] = [status]
                done = status.points if status.state is IndexState.READY else min(status.indexed, status.points)
                note = "put off for a bulk load" if status.state is IndexState.DEFERRED else ""
                bar.update(line, total=status.points, completed=done, note=note)
                lines.look(f"index {told(status)}")

            return client.collections.wait_for_index(name, timeout_s=timeout_s, progress=look)
    except KeyboardInterrupt:
        far = f", {told(last[0])}" if last else ""
        follows = f"`gristmill collections wait {name}` follows it"
        raise KeyboardInterrupt(f"Qdrant goes on with the index of {name}{far}: {follows}") from None


@contextmanager
def loaded_in_bulk(client: Client, name: str) -> Iterator[None]:
    """A bulk load for one command; if it is interrupted, it says what becomes of the index."""
    try:
        with client.bulk(name):
            yield
    except KeyboardInterrupt as left:
        words = str(left) or "; ".join(getattr(left, "__notes__", ()))
        later = f"the index of {name} is built once its documents are stored: `gristmill collections wait {name}` follows it"
        raise KeyboardInterrupt(f"{words}; {later}" if words else later) from None
