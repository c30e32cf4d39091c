"""`gristmill eval report QUESTIONS -o FILE`: what was measured, as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gristmill import SearchMode
from gristmill.cli.evaluation import asked
from gristmill.cli.output import JsonFlag, print_json, said, say
from gristmill.cli.search import parse_where
from gristmill.evaluation.configurations import Configuration
from gristmill.evaluation.questions import read_questions
from gristmill.evaluation.report import Plot, page
from gristmill.evaluation.report import gathering as gathered
from gristmill.evaluation.retrieval import evaluate
from gristmill_schemas.errors import InvalidInput

app = typer.Typer()


@app.command()
def report(
    questions: asked.Questions,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file; one that is there is replaced.")],
    collection: asked.Collection = None,
    documents: asked.DocumentsFile = None,
    model: asked.Model = None,
    color: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="Metadata field that colours the map; default `category`, or the best there is."
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option("--instruction", "-i", help="What it is for: a sentence, a registered name, or a preset."),
    ] = None,
    lens: asked.Lens = None,
    mode: Annotated[SearchMode, typer.Option(help="Rank by vectors, by words (BM25), or by both.")] = SearchMode.DENSE,
    tenant: asked.Tenant = None,
    where: Annotated[list[str] | None, typer.Option("--where", "-w", help="Search only there; repeatable.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE", help="Gains and losses against the same, but for this.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    queries: asked.Queries = None,
    split: asked.Split = "test",
    allow_missing: asked.AllowMissing = False,
    on_server: asked.OnServer = False,
    as_json: JsonFlag = False,
) -> None:
    """Plots in one HTML file that needs no network: likeness, a map, gains and losses, scores, recall against latency."""
    asked.require_extra()
    configuration = Configuration(
        collection=collection,
        documents=asked.documents_given(questions, collection, documents),
        model=model,
        instruction=instruction,
        lens=lens,
        mode=mode.value,
        tenant=tenant,
        where=parse_where(where or ()),
    )
    other = None if against is None else configuration.changed(against)
    labelled = read_questions(questions, queries=queries, split=split)
    with asked.places(as_json=as_json, on_server=on_server) as places:
        client, name = places.of(configuration)
        options = configuration.options()
        plots: list[Plot] = list(
            gathered.plots_of_collection(client, name, color, lens=lens, where=configuration.where, tenant=tenant)
        )
        if other is not None:
            its_client, its_name = places.of(other)
            mine = evaluate(client, name, labelled, allow_missing=allow_missing, **options)
            its = evaluate(its_client, its_name, labelled, allow_missing=allow_missing, **other.options())
            plots.append(gathered.gains_plot(mine, its, ("this", str(against))))
        plots += [draw(client, name, labelled, options) for draw in (gathered.scores_plot, gathered.latency_plot)]
    told = ", ".join(f"{key}={value}" for key, value in configuration.told().items())
    heading = title or f"Searches of {collection or documents or questions}"
    written = page(heading, f"{len(labelled)} questions. {told}", plots)
    try:
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"output: expected a file that can be written, got {error}", field="output") from None
    if as_json:
        print_json({"file": str(output), "bytes": len(written.encode()), "plots": [each.title for each in plots]})
    else:
        say(f"{said(output)}: {len(plots)} plots")
