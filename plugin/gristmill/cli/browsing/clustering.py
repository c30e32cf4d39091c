"""`gristmill cluster NAME`: documents that say the same, as groups."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.padding import Padding
from typer.core import TyperCommand

from gristmill import Cluster, Clustering, ClusterMember
from gristmill.cli.browsing.commands import Name, TenantOption, WhereOption
from gristmill.cli.jobs import watch_job
from gristmill.cli.layout import counted
from gristmill.cli.output import JsonFlag, aside, console, notes, print_json, progress_bar, said, say
from gristmill.cli.reports import as_record, sentence
from gristmill.cli.search import parse_where
from gristmill.startup import open_client

app = typer.Typer()

#: The field of `--apply` alone.
_FIELD = "group"


class _Applying(TyperCommand):
    """`--apply` with a field, or alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read arguments, as Typer does."""
        given = list(args)
        for at, (each, behind) in enumerate(zip(args, [*args[1:], "-"], strict=True)):
            if each == "--apply" and behind.startswith("-"):
                given.insert(at + 1, _FIELD)
        return super().parse_args(ctx, given)


@app.command(cls=_Applying)
def cluster(
    name: Name,
    k: Annotated[int | None, typer.Option("-k", "--k", help="So many groups (K-means).")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", "-t", help="Or: least cosine to the document at a group's centre.")
    ] = None,
    where: WhereOption = None,
    lens: Annotated[str | None, typer.Option(help="Compare under this lens of the collection.")] = None,
    tenant: TenantOption = None,
    min_size: Annotated[int | None, typer.Option(help="Leave smaller groups out.")] = None,
    representatives: Annotated[int, typer.Option(help="Documents shown of each group.")] = 3,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most groups shown; --json has all.")] = 20,
    apply: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Write each document's group to this metadata field; alone: `group`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --apply: only say what would be written.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Group documents that are alike, by their stored vectors."""
    with open_client(aside) as client:
        with progress_bar(hidden=as_json) as bar:
            line = bar.add_task("reading", total=None, note="")
            found = client.cluster(
                name,
                k,
                threshold=threshold,
                where=parse_where(where or ()),
                tenant=tenant,
                lens=lens,
                min_size=min_size,
                representatives=representatives,
                apply=apply,
                dry_run=dry_run,
                progress=lambda stage, done: bar.update(line, description=stage, completed=done),
            )
        written = None if found.job_id is None else watch_job(client.jobs.get(found.job_id), hidden=as_json)
    if as_json:
        print_json(found.model_dump(mode="json") | {"job": written and as_record(written)})
    else:
        show_clustering(found, limit, dry_run=dry_run)
        if written:
            say(sentence(written))
    if written and written.dead:
        raise typer.Exit(1)


def show_clustering(found: Clustering, limit: int, *, dry_run: bool) -> None:
    """Groups for people: each with its size, its cohesion, and the documents that stand for it."""
    for each in found.clusters[:limit]:
        _show(each)
    if (more := len(found.clusters) - limit) > 0:
        say(f"… and {counted(more, 'group')} more: -n {len(found.clusters)}, or --json", notes)
    alone = f", {found.ungrouped:,} in none" if found.ungrouped else ""
    say(f"{counted(found.documents, 'document')} in {counted(len(found.clusters), 'group')}{alone}")
    if found.vectorless:
        say(f"{counted(found.vectorless, 'document')} left out, without such a vector: `gristmill audit`", notes)
    if found.field is not None:
        would = "would change" if dry_run else "changes"
        say(f"[cyan]{said(found.field)}[/] {would} in {counted(found.changes or 0, 'document')}")


def _show(group: Cluster) -> None:
    say(f"[bold]{group.number}[/] {counted(group.size, 'document')} [dim]cohesion {group.cohesion:.3f}[/]")
    for each in group.representatives:
        console.print(Padding(_line(each), (0, 0, 0, 3), expand=False))


def _line(member: ClusterMember) -> str:
    return f"[green]{member.similarity:.3f}[/] [cyan]{said(member.id)}[/] {said(' '.join((member.text or '').split()))}"
