"""`gristmill eval cluster` and `gristmill eval pairs`: what vectors say of texts themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from gristmill import Client
from gristmill.cli.evaluation import asked, figures
from gristmill.cli.layout import counted, listing
from gristmill.cli.output import JsonFlag, aside, notes, print_json, said, say
from gristmill.evaluation.intervals import Interval
from gristmill.evaluation.likeness.clusters import Clusters, Group, cluster_texts
from gristmill.evaluation.likeness.pairs import JudgedPair, Pairs, judge_pairs
from gristmill.evaluation.likeness.texts import read_pairs, read_texts
from gristmill.search.embedding import Kind
from gristmill.startup import open_client

app = typer.Typer()

#: Mistakes shown to people; `--json` has all.
_SHOWN = 10

Model = Annotated[str | None, typer.Option(help="The model, loaded here; default GRISTMILL_MODEL.")]
Served = Annotated[bool, typer.Option("--served", help="Ask a running worker instead of loading the model here.")]
Instruction = Annotated[
    str | None, typer.Option("--instruction", "-i", help="What texts are embedded for: a sentence, or a preset.")
]
AsKind = Annotated[
    str, typer.Option("--kind", help="Embed as `query`, which models advise for likeness, or as `document`.")
]


@app.command()
def cluster(
    file: Annotated[
        str, typer.Argument(help='JSONL of {"text": …, "label": …}, `-`, or `legal`, which ships.', metavar="FILE")
    ],
    model: Model = None,
    instruction: Instruction = None,
    kind: AsKind = "query",
    k: Annotated[int | None, typer.Option("-k", "--k", help="So many groups; default: as many as classes.")] = None,
    served: Served = False,
    as_json: JsonFlag = False,
) -> None:
    """Group labelled texts by K-means, and compare the groups with the labels; 95 % intervals."""
    asked.require_extra()
    texts = read_texts(file)
    with _encoder(model, served) as client:
        vectors, told = _embed(client, [each.text for each in texts], model, kind, instruction)
    found = cluster_texts(texts, vectors, k)
    if as_json:
        print_json(clusters_record(found) | {"configuration": told})
    else:
        _show_clusters(found)


@app.command()
def pairs(
    file: Annotated[
        str,
        typer.Argument(help='JSONL of {"a": …, "b": …, "same": true}, `-`, or `pairs`, which ships.', metavar="FILE"),
    ],
    model: Model = None,
    instruction: Instruction = None,
    kind: AsKind = "query",
    served: Served = False,
    as_json: JsonFlag = False,
) -> None:
    """How well cosines tell texts that say the same from others: threshold, accuracy on pairs it has not seen, AUC."""
    asked.require_extra()
    labelled = read_pairs(file)
    texts = [*(each.a for each in labelled), *(each.b for each in labelled)]
    with _encoder(model, served) as client:
        vectors, told = _embed(client, texts, model, kind, instruction)
    found = judge_pairs(labelled, vectors[: len(labelled)], vectors[len(labelled) :])
    if as_json:
        print_json(pairs_record(found) | {"configuration": told})
    else:
        _show_pairs(found)


@contextmanager
def _encoder(model: str | None, served: bool) -> Iterator[Client]:
    given = {} if model is None else {"model": model}
    with open_client(aside) if served else Client.embedded(**given) as client:  # type: ignore[arg-type]  # a name alone
        yield client


def _embed(
    client: Client, texts: Sequence[str], model: str | None, kind: str, instruction: str | None
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Vectors, and what they are of."""
    as_kind: Kind = kind  # type: ignore[assignment]  # which `embed` checks
    vectors = client.embed(texts, model=model, kind=as_kind, instruction=instruction)
    known = client.models.served(model, wait_s=0).model
    told = {"model": known, "kind": kind, "instruction": instruction, "dimensions": vectors.shape[1]}
    return vectors, {name: value for name, value in told.items() if value is not None}


def clusters_record(found: Clusters) -> dict[str, Any]:
    """Groups of labelled texts, as JSON."""
    return {
        "texts": len(found.texts),
        "classes": len(found.classes),
        "clusters": [_group_record(each) for each in found.groups],
        **figures.figures_record(found.figures),
        "confusion": {label: [group.counts[row] for group in found.groups] for row, label in enumerate(found.classes)},
        "strays": [
            {"text": text.text, "label": text.label, "cluster_label": group.label} for text, group in found.strays
        ],
    }


def _group_record(group: Group) -> dict[str, Any]:
    return {"size": group.size, "label": group.label, "consistency": round(group.share, 6)}


def _show_clusters(found: Clusters) -> None:
    say(f"[bold]{counted(len(found.texts), 'text')} of {len(found.classes)} classes in {len(found.groups)} groups[/]")
    _show_figures(found.figures)
    heading = ["class", *(f"group {place}" for place in range(1, len(found.groups) + 1))]
    say("")
    listing(heading, [(label, *(g.counts[row] for g in found.groups)) for row, label in enumerate(found.classes)])
    say("")
    rows = [(f"group {n}", each.size, each.label, f"{each.share:.1%}") for n, each in enumerate(found.groups, 1)]
    listing(["", "texts", "most are", "consistency"], rows)
    for text, group in found.strays[:_SHOWN]:
        say(f"[yellow]{said(text.label)}[/] among {said(group.label)}: {said(text.text)}", notes)
    _more(len(found.strays), "text")


def pairs_record(found: Pairs) -> dict[str, Any]:
    """Judged pairs, as JSON."""
    low, high = found.thresholds
    return {
        "pairs": len(found.judged),
        "same": sum(each.pair.same for each in found.judged),
        "threshold": round(found.threshold, 6),
        "threshold_low": round(low, 6),
        "threshold_high": round(high, 6),
        **figures.figures_record({"accuracy": found.accuracy, "auc": found.auc}),
        "kinds": {kind: {"pairs": count, "accuracy": round(right, 6)} for kind, (count, right) in found.kinds.items()},
        "wrong": [_pair_record(each) for each in found.wrong],
    }


def _pair_record(each: JudgedPair) -> dict[str, Any]:
    pair = each.pair
    told = {"a": pair.a, "b": pair.b, "same": pair.same, "cosine": round(each.cosine, 6)}
    return told | ({"kind": pair.kind} if pair.kind else {})


def _show_pairs(found: Pairs) -> None:
    low, high = found.thresholds
    same = sum(each.pair.same for each in found.judged)
    say(f"[bold]{counted(len(found.judged), 'pair')}, {same} of which say the same[/]")
    _show_figures({"accuracy": found.accuracy, "auc": found.auc})
    say(f"threshold [bold]{found.threshold:.3f}[/] [dim]chosen on all pairs; {low:.3f} to {high:.3f} on nine tenths[/]")
    if found.kinds:
        say("")
        rows = [(kind, count, f"{right:.1%}") for kind, (count, right) in found.kinds.items()]
        listing(["kind", "pairs", "right"], rows)
    for each in found.wrong[:_SHOWN]:
        told = "the same" if each.pair.same else "not the same"
        say(f"[yellow]{each.cosine:.3f}[/] {told}: {said(each.pair.a)} · {said(each.pair.b)}", notes)
    _more(len(found.wrong), "mistake")


def _show_figures(shown: dict[str, Interval]) -> None:
    rows = [(name.replace("_", " "), f"{x.value:.3f}", f"{x.low:.3f} to {x.high:.3f}") for name, x in shown.items()]
    listing(["figure", "value", "95 % interval"], rows)


def _more(count: int, noun: str) -> None:
    if count > _SHOWN:
        say(f"… and {counted(count - _SHOWN, noun)} more: --json", notes)
