"""`gristmill tenants erase|confirm NAME TENANT`: what there is of a tenant, and away with it."""

from __future__ import annotations

from typing import Annotated

import typer

from gristmill import Erasure
from gristmill.cli.layout import counted, listing
from gristmill.cli.output import JsonFlag, aside, confirm, notes, print_json, said, say
from gristmill.startup import open_client
from gristmill_schemas.audit import PLACES

commands = typer.Typer(help="Erase one tenant from a collection, and prove it.", no_args_is_help=True)
app = typer.Typer()
app.add_typer(commands, name="tenants")


@commands.command()
def erase(
    name: Annotated[str, typer.Argument(help="The collection.")],
    tenant: Annotated[str, typer.Argument(help="Whose everything goes.")],
    wait_s: Annotated[float, typer.Option(min=0, help="Longest wait for workers that are writing.")] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Erase a tenant: points, what is on its way, dead letters, roster, tombstones. Exit code 1 where something is left."""
    with open_client(aside) as client:
        if not yes:
            there = client.confirm_erased(name, tenant)
            confirm(f"Erase tenant {tenant!r} from {name!r}: {_listed(there)}?")
        _show(client.erase_tenant(name, tenant, wait_s=wait_s), as_json)


@commands.command("confirm")
def confirm_(
    name: Annotated[str, typer.Argument(help="The collection.")],
    tenant: Annotated[str, typer.Argument(help="Who should be nowhere.")],
    as_json: JsonFlag = False,
) -> None:
    """Look for a tenant everywhere, and change nothing. Exit code 1 where something is left."""
    with open_client(aside) as client:
        _show(client.confirm_erased(name, tenant), as_json)


def _listed(proof: Erasure) -> str:
    there = {place: getattr(proof, place).found for place in PLACES}
    told = [f"{found:,} {place.replace('_', ' ')}" for place, found in there.items() if found]
    return ", ".join(told) or "nothing is there"


def _show(proof: Erasure, as_json: bool) -> None:
    if as_json:
        print_json(proof.model_dump(mode="json") | {"is_complete": proof.is_complete})
    else:
        show_erasure(proof)
    if not proof.is_complete:
        raise typer.Exit(1)


def show_erasure(proof: Erasure) -> None:
    """A proof for people."""
    state = "[green]nothing is left[/]" if proof.is_complete else "[bold red]something is left[/]"
    say(f"tenant {said(proof.tenant)} in {said(proof.collection)}: {state}")
    places = {place: getattr(proof, place) for place in PLACES}
    rows = [(place.replace("_", " "), each.found, each.erased, each.left) for place, each in places.items()]
    listing(["place", "found", "erased", "left"], rows)
    if proof.unanswered:
        workers = counted(proof.unanswered, "worker")
        say(f"{workers} that had been writing did not answer: what may still come is taken back within seconds", notes)
    if not proof.is_complete:
        say("`gristmill tenants erase` again: something came in meanwhile", notes)
