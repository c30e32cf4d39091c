"""`gristmill schema`: the contract as JSON Schema, for producers in other languages."""

from __future__ import annotations

import sys

import typer

from gristmill.cli.terminal import json_text
from gristmill_schemas.export import json_schema

app = typer.Typer()


@app.command()
def schema() -> None:
    """Print the JSON Schema of every record."""
    sys.stdout.write(json_text(json_schema(), sys.stdout.encoding, indent=2, sort_keys=True) + "\n")
