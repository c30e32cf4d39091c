"""`gristmill demo`: the command around `run_demo`, which loads what it needs after a first word."""

from __future__ import annotations

from typing import Annotated

import typer

from gristmill.cli.output import JsonFlag, notes, say
from gristmill.extras import brought_by

app = typer.Typer()


@app.command()
def demo(
    questions: Annotated[
        list[str] | None, typer.Argument(help="Your own questions, instead of the prepared ones.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub id instead of multilingual-e5-small.")] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", help="What your own questions are for.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Forget what an earlier run stored.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """The main job on real text with a real model, without servers."""
    if not as_json:
        say("[dim]Gristmill's demo: real text, a real model, no server; importing …[/]", notes)
    with brought_by("worker", "`gristmill demo`"):
        from gristmill_worker.demo.running import run_demo

    run_demo(questions or (), model, instruction, fresh=fresh, as_json=as_json)
