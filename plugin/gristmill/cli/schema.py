"""`gristmill schema`: the contract as JSON Schema, for producers in other languages."""

from __future__ import annotations

import json

import typer

from gristmill_schemas.export import json_schema

app = typer.Typer()


@app.command()
def schema() -> None:
    """Print the JSON Schema of every record."""
    typer.echo(json.dumps(json_schema(), ensure_ascii=False, indent=2, sort_keys=True))
