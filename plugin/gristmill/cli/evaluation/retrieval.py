"""`gristmill eval retrieval QUESTIONS`: how often the right document comes first, with intervals, and against what else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill import Fusion, SearchMode
from gristmill.cli.evaluation import asked, figures
from gristmill.cli.layout import counted
from gristmill.cli.output import JsonFlag, notes, print_json, progress_bar, said, say
from gristmill.cli.search import parse_where
from gristmill.evaluation.configurations import Configuration
from gristmill.evaluation.gates import Floor, parse_floors
from gristmill.evaluation.intervals import adjusted
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.measures import FIGURES
from gristmill.evaluation.places import Places
from gristmill.evaluation.questions import read_questions
from gristmill.evaluation.retrieval import Comparison, Evaluation, compare, evaluate
from gristmill.evaluation.trec import write_run

app = typer.Typer()


@app.command()
def retrieval(
    questions: asked.Questions,
    collection: asked.Collection = None,
    documents: asked.DocumentsFile = None,
    model: asked.Model = None,
    instruction: Annotated[
        str | None,
        typer.Option("--instruction", "-i", help="What it is for: a sentence, a registered name, or a preset."),
    ] = None,
    lens: asked.Lens = None,
    mode: Annotated[SearchMode, typer.Option(help="Rank by vectors, by words (BM25), or by both.")] = SearchMode.DENSE,
    fusion: Annotated[Fusion | None, typer.Option(help="How --mode hybrid joins both lists; default `rrf`.")] = None,
    rerank: Annotated[bool, typer.Option("--rerank", help="Let the worker's reranker order the candidates.")] = False,
    reranker: Annotated[str | None, typer.Option(help="Which one; says --rerank.")] = None,
    rerank_top: Annotated[int | None, typer.Option(help="Candidates that are reranked; default 50.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="The first numbers of each vector alone, exactly.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Of --documents that are kept on the server: int8, binary …")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Look at everything, and not by the graph.")] = False,
    tenant: asked.Tenant = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", "-w", help="Search only there, as in `search`; repeatable.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Compare with the same, but for this: mode=hybrid, instruction=…, collection=…, model=…; repeatable.",
        ),
    ] = None,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(metavar="FIGURE=VALUE", help="End with 1 below it: mrr=0.8, top1_low=0.5; repeatable."),
    ] = None,
    run_out: Annotated[Path | None, typer.Option(help="Write the rankings here, as trec_eval reads them.")] = None,
    per_question: Annotated[bool, typer.Option("--per-question", help="A row for each question, too.")] = False,
    queries: asked.Queries = None,
    split: asked.Split = "test",
    allow_missing: asked.AllowMissing = False,
    on_server: asked.OnServer = False,
    as_json: JsonFlag = False,
) -> None:
    """How often labelled questions find their documents, with 95 % intervals; and whether another way is better.

    Top-1; Recall@3 and @10, the share of questions with a right document among the first; MRR of the whole ranking; nDCG@10.
    """
    asked.require_extra()
    floors = parse_floors(fail_below or ())
    configuration = Configuration(
        collection=collection,
        documents=asked.documents_given(questions, collection, documents),
        model=model,
        dimensions=dimensions,
        quantization=quantization,
        instruction=instruction,
        lens=lens,
        mode=mode.value,
        fusion=fusion and fusion.value,
        rerank=reranker or rerank or None,
        rerank_top=rerank_top,
        exact=exact,
        tenant=tenant,
        where=parse_where(where or ()),
    )
    others = [configuration.changed(each) for each in against or ()]
    labelled = read_questions(questions, queries=queries, split=split)
    with asked.places(as_json=as_json, on_server=on_server) as places:
        seen = _evaluated([configuration, *others], labelled, places, allow_missing, hidden=as_json)
    first, rest = seen[0], [_against(each, seen[0]) for each in seen[1:]]
    if run_out is not None:
        write_run(first.evaluation, run_out)
    below = [each for each in floors if each.passes_not(first.evaluation)]
    if as_json:
        print_json(_record(first, rest, below, per_question))
    else:
        _show(first, rest, below, per_question)
    if len(seen) <= len(others) or not all(each.evaluation.complete for each in seen):
        raise KeyboardInterrupt("interrupted: the figures are of the questions that were done")
    if below:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Seen:
    configuration: Configuration
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class _Against:
    seen: _Seen
    comparison: Comparison


def _evaluated(
    configurations: Sequence[Configuration],
    questions: Sequence[Question],
    places: Places,
    allow_missing: bool,
    *,
    hidden: bool,
) -> list[_Seen]:
    """Each configuration's figures; after Ctrl-C those that there are by then."""
    found: list[_Seen] = []
    for each in configurations:
        try:
            found.append(_Seen(each, _asked(each, questions, places, allow_missing, hidden=hidden)))
        except KeyboardInterrupt:
            if not found:
                raise
            break
        if not found[-1].evaluation.complete:
            break
    return found


def _asked(
    configuration: Configuration, questions: Sequence[Question], places: Places, allow_missing: bool, *, hidden: bool
) -> Evaluation:
    client, collection = places.of(configuration)
    with progress_bar(hidden=hidden) as bar:
        line = bar.add_task("asking", total=len(questions), note="")
        return evaluate(
            client,
            collection,
            questions,
            dimensions=configuration.dimensions,
            allow_missing=allow_missing,
            progress=lambda done: bar.update(line, completed=done),
            **configuration.options(),
        )


def _against(other: _Seen, first: _Seen) -> _Against:
    return _Against(other, compare(first.evaluation, other.evaluation))


def _adjusted(rest: Sequence[_Against]) -> list[dict[str, float]]:
    """P-values of each comparison by figure, for as many comparisons as there are."""
    by_figure = {name: adjusted([each.comparison.differences[name].p_value for each in rest]) for name in FIGURES}
    return [{name: values[at] for name, values in by_figure.items()} for at in range(len(rest))]


def _record(first: _Seen, rest: Sequence[_Against], below: Sequence[Floor], per_question: bool) -> dict[str, Any]:
    evaluation = first.evaluation
    told: dict[str, Any] = {"questions": len(evaluation.questions), **figures.figures_record(evaluation.figures)}
    told |= {"configuration": first.configuration.told(), "complete": evaluation.complete}
    if rest:
        told["comparisons"] = [
            _comparison_record(each, p_values) for each, p_values in zip(rest, _adjusted(rest), strict=True)
        ]
    if below:
        told["below"] = [each.record(evaluation) for each in below]
    if per_question:
        told["per_question"] = list(figures.question_records(evaluation))
    return told


def _comparison_record(against: _Against, p_values: dict[str, float]) -> dict[str, Any]:
    comparison = against.comparison
    return {
        "against": against.seen.configuration.told(),
        **figures.figures_record(against.seen.evaluation.figures),
        "differences": {
            name: figures.difference_record(each, p_values[name]) for name, each in comparison.differences.items()
        },
        "won": [figures.change_record(each) for each in comparison.won],
        "lost": [figures.change_record(each) for each in comparison.lost],
        "tied": comparison.tied,
    }


def _show(first: _Seen, rest: Sequence[_Against], below: Sequence[Floor], per_question: bool) -> None:
    evaluation = first.evaluation
    if per_question:
        figures.show_questions(evaluation)
    say(f"[bold]{counted(len(evaluation.questions), 'question')}[/]{_described(first.configuration)}")
    figures.show_figures(evaluation.figures)
    for each, p_values in zip(rest, _adjusted(rest), strict=True):
        say(f"\n[bold]against[/]{_described(each.seen.configuration)}")
        figures.show_comparison(each.comparison, evaluation, each.seen.evaluation, p_values)
    for floor in below:
        say(f"[bold red]below[/]: {floor.told(evaluation)}", notes)


def _described(configuration: Configuration) -> str:
    told = ", ".join(f"{name}={value}" for name, value in configuration.told().items())
    return f" [dim]{said(told)}[/]"
