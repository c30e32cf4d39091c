"""`gristmill bench …`: commands around benchmarks, which are loaded when one runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gristmill.extras import brought_by

app = typer.Typer(help="Ratios against a ceiling or a peer, measured in the same run.", no_args_is_help=True)


@app.command("encoder")
def bench_encoder(
    model: Annotated[str, typer.Option(help="Folder, hub id, or random:qwen3-0.6b[:LAYERS].")],
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    texts: Annotated[
        Path | None, typer.Option(help="A text per line (or .jsonl with `text`); else built-in ones.")
    ] = None,
    n_texts: Annotated[int, typer.Option(min=1, help="How many built-in texts.")] = 300,
    peer: Annotated[str | None, typer.Option(help="sentence-transformers, to be compared with.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per pass; measured if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure the encoder against this machine's ceiling and against its peer."""
    if peer not in (None, "sentence-transformers"):
        raise typer.BadParameter(f"expected sentence-transformers, got {peer!r}", param_hint="--peer")
    with brought_by("worker", "`gristmill bench encoder`"):
        from gristmill_worker.bench.corpus import read_texts
        from gristmill_worker.bench.encoder_bench import run_encoder_bench

    report = run_encoder_bench(
        model,
        dtype=dtype,
        device=device,
        texts=read_texts(texts) if texts else None,
        n_texts=n_texts,
        peer=peer is not None,
        budget_tokens=budget_tokens,
        rounds=rounds,
    )
    if as_json:
        typer.echo(json.dumps(report))
        return
    for key, value in report.items():
        typer.echo(f"{key:>20}  {value}")


@app.command("gpu")
def bench_gpu(
    model: Annotated[str, typer.Option(help="Folder, hub id, or random:qwen3-0.6b[:LAYERS].")] = "random:qwen3-0.6b",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="cuda, cuda:N; cpu for the same table without a card.")] = "cuda",
    n_texts: Annotated[int, typer.Option(min=1, help="How many texts of mixed lengths.")] = 2_000,
    peer: Annotated[
        bool, typer.Option("--peer", help="Compare with sentence-transformers at its best attention.")
    ] = False,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens per pass; measured if left out.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
) -> None:
    """Measure a card: mixed, short and long texts, and queries alone. One JSON object."""
    from gristmill.cli.output import aside

    with brought_by("worker", "`gristmill bench gpu`"):
        from gristmill_worker.bench.gpu import run_gpu_bench

    report = run_gpu_bench(
        model,
        device=device,
        dtype=dtype,
        n_texts=n_texts,
        peer=peer,
        budget_tokens=budget_tokens,
        rounds=rounds,
        note=aside,
    )
    typer.echo(json.dumps(report, indent=1))


@app.command("pipeline")
def bench_pipeline(
    encoder: Annotated[
        str | None,
        typer.Option(
            help="hash:DIM (costs nothing), card:TOKENS_PER_S (a simulated card), demo, folder, hub id, or random:…."
        ),
    ] = None,
    documents: Annotated[int, typer.Option(min=64, help="How many documents.")] = 20_000,
    tokens: Annotated[
        int | None,
        typer.Option(min=4, max=1_000, help="Of each document, about; default real paragraphs, of any length."),
    ] = None,
    dimensions: Annotated[int | None, typer.Option(min=2, help="Of the vectors, as in hash:DIM; default 1024.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    torch_threads: Annotated[int | None, typer.Option(min=1, help="Of torch in each; default its own choice.")] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Measure one worker, too, in every round; takes --workers of at least 2.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
    peers: Annotated[str, typer.Option(help="Measured, too: langchain,llamaindex (all vectors for nothing).")] = "",
    index: Annotated[bool, typer.Option("--index", help="Build vector indexes, and measure until they are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure the whole way through Redis, workers and Qdrant.

    Beside it in every round: a raw upload of the same points, and the encoder alone right before and right after.
    """
    from gristmill.cli.output import aside, print_json

    with brought_by("bench", "`gristmill bench pipeline`"):
        from gristmill_worker.bench.pipeline.records import Plan
        from gristmill_worker.bench.pipeline.report import report
        from gristmill_worker.bench.pipeline.run import measure
        from gristmill_worker.bench.pipeline.table import show

    plan = Plan(
        encoder=_encoder(encoder, dimensions),
        documents=documents,
        workers=workers,
        torch_threads=torch_threads,
        rounds=rounds,
        peers=tuple(dict.fromkeys(each.strip() for each in peers.split(",") if each.strip())),
        index=index,
        tokens=tokens,
        scaling=scaling,
    )
    figures = report(plan, measure(plan, aside))
    if as_json:
        print_json(figures)
    else:
        show(figures)


@app.command("search")
def bench_search(
    encoder: Annotated[
        str, typer.Option(help="hash:DIM (costs nothing), demo, folder, hub id, or random:….")
    ] = "hash:1024",
    documents: Annotated[int, typer.Option(min=64, help="How many are searched.")] = 10_000,
    queries: Annotated[int, typer.Option(min=50, help="How many different ones.")] = 200,
    limit: Annotated[int, typer.Option(min=1, help="Hits per query.")] = 10,
    reranker: Annotated[str | None, typer.Option(help="On the same worker: reranked searches, too.")] = None,
    torch_threads: Annotated[int | None, typer.Option(min=1, help="Of torch in the worker; default its own.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure a search: beside qdrant-client, beside encoding alone, on threads, and under bulk load."""
    from gristmill.cli.output import aside, print_json

    with brought_by("bench", "`gristmill bench search`"):
        from gristmill_worker.bench.search.records import SearchPlan
        from gristmill_worker.bench.search.report import report, show
        from gristmill_worker.bench.search.run import measure

    plan = SearchPlan(encoder, documents, queries, rounds, limit, torch_threads, reranker)
    figures = report(plan, measure(plan, aside))
    if as_json:
        print_json(figures)
    else:
        show(figures)


@app.command("ledger")
def bench_ledger(
    parcels: Annotated[int, typer.Option(min=1, help="Of 64 documents each, per round.")] = 200,
    queries: Annotated[int, typer.Option(min=1, help="Searches per round.")] = 500,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    idle_s: Annotated[float, typer.Option(min=1, help="Pause in which idle workers are measured, seconds.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure what an idle worker, a parcel and a query cost Redis, on one that nobody else uses."""
    from gristmill.cli.output import aside, print_json

    with brought_by("bench", "`gristmill bench ledger`"):
        from gristmill_worker.bench.ledger import LedgerPlan, measure, show

    figures = measure(LedgerPlan(parcels, queries, workers, idle_s, rounds), aside)
    if as_json:
        print_json(figures)
    else:
        show(figures)


@app.command("fairness")
def bench_fairness(
    encoder: Annotated[str, typer.Option(help="hash:DIM (costs nothing), demo, folder, hub id.")] = "hash:64",
    documents: Annotated[int, typer.Option(min=10_000, help="Of the backlog.")] = 200_000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure how long small jobs take behind a large one, by priority, and what they take from it."""
    from gristmill.cli.output import aside, print_json

    with brought_by("bench", "`gristmill bench fairness`"):
        from gristmill_worker.bench.fairness import FairnessPlan, measure, show

    figures = measure(FairnessPlan(encoder, documents, workers=workers), aside)
    if as_json:
        print_json(figures)
    else:
        show(figures)


@app.command("estimate")
def bench_estimate(
    encoder: Annotated[str, typer.Option(help="hash:DIM, demo, folder, hub id, random:…, or a server's URL.")] = "demo",
    tokens: Annotated[int, typer.Option(min=1_000, help="Of each kind of texts, roughly.")] = 12_000,
    kinds: Annotated[str, typer.Option(help="Some of them, with commas; all where it is left out.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure how right `gristmill ingest --dry-run` is: seconds estimated and real, by kind of text."""
    from gristmill.cli.output import aside, print_json

    with brought_by("bench", "`gristmill bench estimate`"):
        from gristmill_worker.bench.estimate import KINDS, EstimatePlan, measure, show

    asked = tuple(dict.fromkeys(each.strip() for each in kinds.split(",") if each.strip()))
    if unknown := [each for each in asked if each not in KINDS]:
        raise typer.BadParameter(f"expected some of {', '.join(KINDS)}, got {unknown[0]!r}", param_hint="--kinds")
    figures = measure(EstimatePlan(encoder, tokens, asked, workers, rounds), aside)
    if as_json:
        print_json(figures)
    else:
        show(figures)


@app.command("serve")
def bench_serve(
    model: Annotated[str, typer.Option(help="Folder, hub id, demo, or hash:DIM.")] = "demo",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    requests: Annotated[int, typer.Option(min=1, help="How many in each round.")] = 128,
    concurrent: Annotated[int, typer.Option(min=1, help="How many at once.")] = 64,
    texts: Annotated[int, typer.Option(min=1, help="Texts in each.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")] = False,
) -> None:
    """Measure `gristmill serve` under load, beside its own encoder."""
    from gristmill.cli.layout import fields
    from gristmill.cli.output import print_json

    with brought_by("serve", "`gristmill bench serve`"):
        import gristmill_worker.server.running  # noqa: F401  # what the server's own process needs
        from gristmill_worker.bench.serve import ServePlan, run_serve_bench

    figures = run_serve_bench(ServePlan(model, dtype, requests, concurrent, texts, rounds))
    if as_json:
        print_json(figures)
    else:
        fields((name.replace("_", " "), value) for name, value in figures.items())


def _encoder(encoder: str | None, dimensions: int | None) -> str:
    meant = f"hash:{dimensions or 1024}"
    if dimensions is not None and encoder not in (None, meant):
        raise typer.BadParameter(
            f"expected hash:{dimensions} as --encoder beside it, or none, got {encoder!r}; a model has its own",
            param_hint="--dimensions",
        )
    return encoder or meant
