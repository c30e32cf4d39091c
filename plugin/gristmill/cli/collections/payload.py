"""`gristmill collections index create|list|drop`: indexes over fields of the metadata."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from gristmill import FieldIndex, InvalidInput
from gristmill.cli.layout import counted, listing
from gristmill.cli.output import JsonFlag, aside, print_json, said, say
from gristmill.startup import open_client

app = typer.Typer()
commands = typer.Typer(help="Indexes over metadata, by which filters do not read every document.", no_args_is_help=True)
app.add_typer(commands, name="index")

TYPES = "keyword, integer, float, bool, datetime, uuid, geo or text"


@commands.command()
def create(
    name: Annotated[str, typer.Argument(help="The collection.")],
    indexes: Annotated[list[str], typer.Argument(metavar="FIELD=TYPE…", help=f"Types: {TYPES}.")],
    wait: Annotated[bool, typer.Option(help="Wait until they are built.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Make indexes over fields; one that is there already stays as it is."""
    asked = parse_indexes(indexes, "indexes")
    with open_client(aside, redis=False) as client:
        _show(name, client.indexes.create(name, asked, wait=wait), as_json)


def parse_indexes(given: Iterable[str], argument: str) -> dict[str, str]:
    """`field=type`, each; the field may hold equal signs."""
    found = {}
    for each in given:
        field, separator, kind = each.rpartition("=")
        if not separator or not field:
            raise InvalidInput(f"{argument}: expected FIELD=TYPE, such as lang=keyword, got {each!r}", field=argument)
        found[field] = kind
    return found


@commands.command("list")
def list_(name: str, as_json: JsonFlag = False) -> None:
    """List the indexes over a collection's metadata."""
    with open_client(aside, redis=False) as client:
        _show(name, client.indexes.list(name), as_json)


def _show(name: str, indexes: Sequence[FieldIndex], as_json: bool) -> None:
    if as_json:
        print_json({"collection": name, "indexes": [each.model_dump(mode="json") for each in indexes]})
    elif not indexes:
        say(f"no indexes over metadata yet: `gristmill collections index create {said(name)} FIELD=TYPE` makes one")
    else:
        told = [(each.field, each.type, each.points, _options(each)) for each in indexes]
        listing(["field", "type", "points", "options"], told)


def _options(index: FieldIndex) -> str:
    return ", ".join(f"{name}={value}" for name, value in index.options.items())


@commands.command()
def drop(
    name: str,
    fields: Annotated[list[str], typer.Argument(help="Fields whose indexes go.")],
    as_json: JsonFlag = False,
) -> None:
    """Drop indexes; filters on these fields then read every document again."""
    with open_client(aside, redis=False) as client:
        dropped = client.indexes.drop(name, fields)
    if as_json:
        print_json({"collection": name, "dropped": dropped})
    else:
        say(f"dropped {counted(dropped, 'index').replace('indexs', 'indexes')}")
