"""`gristmill instructions list|show|register|retire|presets`: sentences that say what searches are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gristmill import CollectionSpec, Instruction, Preset
from gristmill.cli.layout import counted, fields, listing, moment
from gristmill.cli.output import JsonFlag, aside, console, print_json, said, say
from gristmill.search.instructions.presets import PRESETS
from gristmill.startup import open_client

app = typer.Typer()
commands = typer.Typer(help="Sentences that say what searches are for, by name and version.", no_args_is_help=True)
app.add_typer(commands, name="instructions")

Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection that they are kept with.")]
Reference = Annotated[str, typer.Argument(metavar="NAME", help="Such as faq, or faq@2.")]


@commands.command("list")
def list_(collection: Collection, as_json: JsonFlag = False) -> None:
    """List the instructions that are registered with a collection, every version."""
    with open_client(aside, redis=False) as client:
        found = client.instructions.list(collection)
    if as_json:
        print_json({"collection": collection, "instructions": [record(each) for each in found]})
    else:
        show_instructions(collection, found)


def show_instructions(collection: str, instructions: Sequence[Instruction]) -> None:
    """Registered instructions for people."""
    if not instructions:
        say(f"no instructions yet: `gristmill instructions register {said(collection)} NAME TEXT`")
        say("those that ship: `gristmill instructions presets`")
        return
    told = [(each.label, _state(each), each.text) for each in instructions]
    listing(["instruction", "state", "text"], told, prose=True)


def _state(instruction: Instruction) -> str:
    return "in use" if instruction.retired_at is None else "retired"


def record(instruction: Instruction) -> dict[str, Any]:
    """An instruction as JSON, with the label that hits report."""
    return {"label": instruction.label, **instruction.model_dump(mode="json")}


@commands.command()
def show(collection: Collection, name: Reference, as_json: JsonFlag = False) -> None:
    """Show one version, and what the collection's model gets before a query."""
    with open_client(aside, redis=False) as client:
        found, spec = client.instructions.show(collection, name), client.collections.get(collection)
    template = spec.space.templates.of_query(found.text)
    if as_json:
        told = {"template": template, "instruction_aware": spec.space.instruction_aware}
        print_json({"collection": collection, **record(found), **told})
    else:
        show_instruction(found, spec)


def show_instruction(instruction: Instruction, spec: CollectionSpec) -> None:
    """One registered instruction for people."""
    space = spec.space
    say(f"[bold]{said(instruction.label)}[/] of {said(spec.name)}")
    console.print()
    fields(
        {
            "text": instruction.text,
            "registered": moment(instruction.registered_at) or None,
            "retired": moment(instruction.retired_at) or None,
            "model": space.model,
            "trained for it": space.instruction_aware,
            "template": space.templates.of_query(instruction.text),
        }
    )


@commands.command()
def register(
    collection: Collection,
    name: Annotated[str, typer.Argument(help="Up to 64 of a-z, 0-9, _ and -, such as faq.")],
    text: Annotated[str, typer.Argument(help="What a search is for, in a sentence.")],
    as_json: JsonFlag = False,
) -> None:
    """Register a sentence as a new version of a name; versions that are there stay as they are."""
    with open_client(aside, redis=False) as client:
        made = client.instructions.register(collection, name, text)
    if as_json:
        print_json({"collection": collection, **record(made)})
    else:
        say(f"{said(made.label)} is registered: `gristmill search {said(collection)} QUERY -i {said(made.name)}`")


@commands.command()
def retire(
    collection: Collection,
    name: Annotated[str, typer.Argument(help="A version, such as faq@2, or a name: all its versions.")],
    as_json: JsonFlag = False,
) -> None:
    """Retire a version, or all of a name. Its text stays, and name@version goes on to work."""
    with open_client(aside, redis=False) as client:
        retired = client.instructions.retire(collection, name)
    if as_json:
        print_json({"collection": collection, "retired": [record(each) for each in retired]})
    else:
        say(f"retired {counted(len(retired), 'version')}: {said(', '.join(each.label for each in retired))}")


@commands.command()
def presets(as_json: JsonFlag = False) -> None:
    """List the instructions that ship, in English and Chinese: `gristmill search … -i preset:faq`."""
    if as_json:
        print_json({"presets": [{"label": each.label, **each.model_dump(mode="json")} for each in PRESETS]})
    else:
        show_presets(PRESETS)


def show_presets(found: Sequence[Preset]) -> None:
    """Presets for people: the text of each, and below it when to take it."""
    for each in found:
        say(f"[bold]{said(each.reference)}[/]")
        fields({"text": each.text, "when": each.note})
