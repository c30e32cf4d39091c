"""`gristmill tenants list|limit`: how much tenants have waiting, and may; `erase|confirm NAME TENANT`: away with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gristmill import Erasure, TenantWork
from gristmill.cli.layout import counted, listing
from gristmill.cli.output import JsonFlag, aside, confirm, notes, print_json, said, say
from gristmill.startup import open_client
from gristmill_schemas.audit import PLACES
from gristmill_schemas.errors import InvalidInput

commands = typer.Typer(help="How much tenants have waiting, and may; erasing one, proved.", no_args_is_help=True)
app = typer.Typer()
app.add_typer(commands, name="tenants")

_MEASURES = ("documents", "tokens", "bytes")


def _most(what: str, *names: str) -> Any:
    return typer.Option(*names, metavar="N|unlimited", help=what)


@commands.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Tenants that have work waiting, or limits of their own; those with the most tokens first."""
    with open_client(aside, qdrant=False) as client:
        show_tenants(client.tenants.list(limit), as_json)


@commands.command("limit")
def limit_(
    tenant: Annotated[str, typer.Argument(help="Whose.")],
    documents: Annotated[str | None, _most("Documents that it may have waiting.")] = None,
    tokens: Annotated[str | None, _most("Tokens: a quarter of the texts' bytes in UTF-8.")] = None,
    bytes_: Annotated[str | None, _most("Bytes of text and metadata, and 64 for each document.", "--bytes")] = None,
    default: Annotated[bool, typer.Option("--default", help="Forget what was set for it: the settings count.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say how much one tenant may have waiting, instead of GRISTMILL_TENANT_MAX_*; its `enqueue` waits beyond.

    What is not named stays as it is. Nobody else is held up.
    """
    asked: dict[str, Any] = {"documents": documents, "tokens": tokens, "bytes": bytes_}
    named = {measure: int(most) if most.isdecimal() else most for measure, most in asked.items() if most is not None}
    if default and named:
        raise InvalidInput("--default and limits: expected one or the other, got both", field="default")
    with open_client(aside, qdrant=False) as client:
        told = client.tenants.unlimit(tenant) if default else client.tenants.limit(tenant, **named)
        show_tenants([told], as_json)


def show_tenants(tenants: Sequence[TenantWork], as_json: bool) -> None:
    """How tenants stand."""
    if as_json:
        print_json({"tenants": [each.model_dump(mode="json") for each in tenants]})
    elif tenants:
        rows = [(each.tenant, *(_amount(each, it) for it in _MEASURES), _mark(each)) for each in tenants]
        listing(["tenant", *_MEASURES, ""], rows)
    else:
        say("no tenant has work waiting, or limits of its own")


def _amount(work: TenantWork, measure: str) -> str:
    """What it has, and may; with a star where that was set for it."""
    has, most = getattr(work, measure), getattr(work, f"max_{measure}")
    star = "*" if measure in work.own else ""
    return f"{has:,} of {most:,}{star}" if most is not None else f"{has:,} of any{star}" if star else f"{has:,}"


def _mark(work: TenantWork) -> str:
    return "at its limit" if work.limited_at is not None else ""


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
