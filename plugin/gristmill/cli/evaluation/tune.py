"""`gristmill eval tune QUESTIONS`: which instruction is best, told on the questions that did not choose it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gristmill import InvalidInput
from gristmill.cli.evaluation import asked
from gristmill.cli.evaluation.figures import change_record, difference_record, p_told
from gristmill.cli.layout import counted, listing
from gristmill.cli.output import JsonFlag, print_json, progress_bar, said, say
from gristmill.evaluation.configurations import Configuration
from gristmill.evaluation.intervals import Interval
from gristmill.evaluation.measures import TITLES, known_figure
from gristmill.evaluation.questions import preset_pair, read_candidates, read_questions
from gristmill.evaluation.tuning import Tried, Tuning, Verdict, tune
from gristmill.search.instructions import PRESETS

app = typer.Typer()


@app.command("tune")
def tune_(
    questions: asked.Questions,
    collection: asked.Collection = None,
    documents: asked.DocumentsFile = None,
    model: asked.Model = None,
    instruction: Annotated[
        list[str] | None,
        typer.Option("--instruction", "-i", help="A candidate: a sentence, a registered name, a preset; repeatable."),
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="A preset in English and Chinese, or all; repeatable."),
    ] = None,
    from_file: Annotated[
        list[Path] | None,
        typer.Option("--from-file", help='Candidates, one a line, or {"en": …, "zh": …}; repeatable.'),
    ] = None,
    figure: Annotated[str, typer.Option(help="What the winner is chosen by: mrr, top1, recall_at_3 …")] = "mrr",
    seed: Annotated[int, typer.Option(min=0, help="Of the split into halves.")] = 0,
    lens: asked.Lens = None,
    tenant: asked.Tenant = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Register the winner with the collection, as a new version.")
    ] = None,
    queries: asked.Queries = None,
    split: asked.Split = "test",
    on_server: asked.OnServer = False,
    as_json: JsonFlag = False,
) -> None:
    """Try instructions on labelled questions: half of them choose, the winner is measured on the other half.

    Documents are not encoded again, and queries in batches. Without candidates it tries every preset.
    """
    asked.require_extra()
    chosen_by = known_figure("figure", figure)
    if register is not None and collection is None:
        raise InvalidInput(
            "register: expected --collection NAME, since an instruction is kept with one", field="register"
        )
    candidates = _candidates(instruction or (), preset or (), from_file or ())
    found = asked.documents_given(questions, collection, documents)
    place = Configuration(collection=collection, documents=found, model=model)
    labelled = read_questions(questions, queries=queries, split=split)
    with asked.places(as_json=as_json, on_server=on_server) as places:
        client, name = places.of(place)
        with progress_bar(hidden=as_json) as bar:
            line = bar.add_task("trying", total=len(candidates), note="")
            tuning = tune(
                client,
                name,
                labelled,
                candidates,
                figure=chosen_by,
                lens=lens,
                tenant=tenant,
                seed=seed,
                progress=lambda done: bar.update(line, completed=done),
            )
        registered = None
        if register is not None and (winner := _worth_registering(tuning)) is not None:
            registered = client.instructions.register(name, register, winner.text).label
    if as_json:
        print_json(_record(tuning, seed, registered))
    else:
        _show(tuning, register, registered)
    if not tuning.complete:
        raise KeyboardInterrupt("interrupted: the figures are of the candidates that were done")


def _candidates(instructions: Sequence[str], presets: Sequence[str], files: Sequence[Path]) -> list[str]:
    found = [*instructions, *(each for name in presets for each in preset_pair(name))]
    found += [each for path in files for each in read_candidates(path)]
    return found or [each.reference for each in PRESETS]


def _worth_registering(tuning: Tuning) -> Tried | None:
    """The winner, where it is ahead on the half that did not choose it, too."""
    return tuning.winner if tuning.gain.value > 0 else None


def _record(tuning: Tuning, seed: int, registered: str | None) -> dict[str, Any]:
    winner, best = tuning.winner, tuning.best
    return {
        "questions": tuning.tuned_on + tuning.held_out_on,
        "tuned_on": tuning.tuned_on,
        "held_out": tuning.held_out_on,
        "seed": seed,
        "figure": tuning.figure,
        "complete": tuning.complete,
        "winner": winner and {"instruction": winner.instruction, "text": winner.text},
        "best": best.instruction,
        "verdict": tuning.verdict,
        "best_held_out": _held_out(tuning.best_held_out),
        "none_held_out": _held_out(tuning.none_held_out),
        "none_tuned": round(tuning.none_tuned, 6),
        "gain": difference_record(tuning.gain),
        "won": [change_record(each) for each in tuning.held_out.won],
        "lost": [change_record(each) for each in tuning.held_out.lost],
        "candidates": [_tried_record(each) for each in tuning.tried],
        "registered": registered,
    }


def _held_out(found: Interval) -> dict[str, float]:
    told = {"value": found.value, "low": found.low, "high": found.high}
    return {name: round(value, 6) for name, value in told.items()}


def _tried_record(tried: Tried) -> dict[str, Any]:
    return {
        "instruction": tried.instruction,
        "text": tried.text,
        "tuned": round(tried.tuned, 6),
        "against_none": difference_record(tried.difference, tried.p_value),
        "verdict": tried.verdict,
    }


def _show(tuning: Tuning, register: str | None, registered: str | None) -> None:
    rows: list[tuple[str, ...]] = [
        (f"{each.tuned:.3f}", f"{each.difference.value:+.3f}", p_told(each.p_value), each.verdict, each.instruction)
        for each in tuning.tried
    ]
    title = TITLES[tuning.figure]
    say(
        f"[bold]{title}[/] [dim]on the {tuning.tuned_on} questions that choose; difference to no instruction "
        f"({tuning.none_tuned:.3f}), p adjusted for {counted(len(rows), 'candidate')}[/]"
    )
    listing([title, "difference", "p", "it", "instruction"], rows, prose=True)
    gain = tuning.gain
    if tuning.winner is None:
        say("\nno candidate is ahead of no instruction: search without one. On the other questions the best candidate")
    else:
        say("\non the other questions the winner")
    say(f"  [bold]{said(tuning.best.instruction)}[/]")
    say(
        f"  [bold]{tuning.verdict}[/]: {title} {tuning.best_held_out.value:.3f} against {tuning.none_held_out.value:.3f}, "
        f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}, p {p_told(gain.p_value)}) on {tuning.held_out_on} "
        f"questions, {len(tuning.held_out.won)} won, {len(tuning.held_out.lost)} lost"
    )
    if tuning.winner is not None and tuning.verdict is Verdict.NOTHING:
        say("  what is ahead by so little may be luck: more labelled questions tell")
    if registered is not None:
        say(f"registered as {said(registered)}")
    elif register is not None:
        say("registered nothing: on the questions that did not choose, no candidate is ahead of no instruction")
