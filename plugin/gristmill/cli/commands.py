"""Every command's name, what it does in a line, and where it is defined: enough for `--help`, which so loads none of them.

A command's module, and all that it needs, is imported when the command is about to run, or to explain itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

#: The commands of this package, in the order of `--help`: module and line. A test holds each line against the command's own.
OWN: Final = {
    "ingest": ("ingest", "Read documents and hand them to the workers."),
    "search": ("search", "Search a collection, with an instruction if you like."),
    "similar": ("browsing", "Documents like stored ones, and unlike others."),
    "scroll": ("browsing", "Documents of a collection, a page at a time."),
    "export": ("browsing", "All documents of a collection, as JSON Lines."),
    "facets": ("browsing", "Values of a metadata field, and how many documents have each."),
    "cluster": ("browsing.clustering", "Group documents that are alike, by their stored vectors."),
    "collections": ("collections", "Create, list, show and delete collections."),
    "instructions": ("collections.instructions", "Sentences that say what searches are for, by name and version."),
    "tenants": ("collections.tenants", "How much tenants have waiting, and may; erasing one, proved."),
    "jobs": ("jobs", "What became of what was handed over."),
    "queue": ("queue", "What waits, for whom, since when, and who works on it."),
    "scale": ("queue.scale", "Seconds of work per model, for autoscalers."),
    "dead": ("dead", "Documents that could not be stored, and why."),
    "webhooks": ("webhooks", "What is told of jobs that are done, and was not delivered yet."),
    "audit": ("audit", "Compare what was accepted with what Qdrant holds."),
    "receipt": ("audit", "What became of one document."),
    "eval": ("evaluation", "How good searches are, in figures with intervals."),
    "doctor": ("doctor", "Check broker, store, workers and settings; say what to do."),
    "health": ("doctor", "Probe this machine's workers: do they move, do they take work?"),
    "mcp": ("mcp", "Serve collections to MCP clients; read-only by default."),
    "schema": ("schema", "Print the JSON Schema of every record."),
}
#: Those of the worker, which joins by the entry point `worker` of the group `gristmill.commands`; listed even without it,
#: since who looks for them needs to hear how to get them.
WORKERS: Final = {
    "worker": "Serve models: encode what is queued for them and store it.",
    "serve": "Answer OpenAI's and Cohere's HTTP APIs; no Redis, no Qdrant.",
    "demo": "The main job on real text with a real model, without servers.",
    "bench": "Ratios against a ceiling or a peer, measured in the same run.",
    "verify-model": "Check a model: published scores, pairs, speed, memory.",
}


class Interrupted(Exception):
    """Ctrl-C, on its way through Typer, which would swallow it."""


class Commands(TyperGroup):
    """The root group; its commands are loaded one by one, when they are needed."""

    def __init__(self, **options: Any) -> None:
        own = [_Later(name, line, _loader(name, module)) for name, (module, line) in OWN.items()]
        workers = [_Later(name, line, _worker_loader(name)) for name, line in WORKERS.items()]
        super().__init__(**options | {"commands": [*own, *workers]})

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Ctrl-C comes out as an error like all others, with the words it was raised with.

        A group that is named without one of its commands says what they are, and that is no error.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            words = str(interrupt) or "; ".join(getattr(interrupt, "__notes__", ()))
            raise Interrupted(words) from interrupt
        except Exception as error:
            if type(error).__name__ != "NoArgsIsHelpError":  # of Typer's own click, which has no public name
                raise
            typer.echo(str(error))
            return 0

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Later) else command, rest


class _Later(TyperCommand):
    """Stands in for a command where only its name and its line are needed."""

    def __init__(self, name: str, line: str, load: Callable[[], Any]) -> None:
        super().__init__(name, help=line)
        self.load = load


def _loader(name: str, module: str) -> Callable[[], Any]:
    return lambda: _of(importlib.import_module(f"gristmill.cli.{module}").app, name)


def _worker_loader(name: str) -> Callable[[], Any]:
    def load() -> Any:
        from importlib.metadata import entry_points

        from gristmill.extras import brought_by

        with brought_by("worker", f"`gristmill {name}`"):
            (entry,) = entry_points(group="gristmill.commands", name="worker")
            app = entry.load()
        return _of(app, name)

    return load


def _of(app: typer.Typer, name: str) -> Any:
    app.rich_markup_mode = None  # as the root's
    return typer.main.get_group(app).commands[name]
