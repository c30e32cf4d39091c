"""Commands of the worker package: `gristmill worker`. Imports nothing heavy until a command runs."""

from __future__ import annotations

import json
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from gristmill.extras import brought_by
from gristmill_worker.bench.cli import app as bench
from gristmill_worker.demo.command import app as demo
from gristmill_worker.process.logs.set_up import LogFormat, set_up_logging
from gristmill_worker.server.command import app as server
from gristmill_worker.verify.cli import app as verify

if TYPE_CHECKING:
    from gristmill_worker.process.host import Host

app = typer.Typer()
app.add_typer(demo)
app.add_typer(server)
app.add_typer(bench, name="bench")
app.add_typer(verify)


@app.command()
def worker(
    model: Annotated[
        list[str] | None, typer.Option(help="Folder or hub id; default GRISTMILL_MODEL. Repeat to serve several.")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option(help="Folder, hub id or URL of a reranker, served beside; default GRISTMILL_RERANKER.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16, float16")] = None,
    threads: Annotated[int | None, typer.Option(help="Parcels worked on at once.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Tokens per batch, instead of measuring.")] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Measure the tokens per batch anew, for every model of this machine.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Answer HTTP as well, as `gristmill serve` does, on the same models.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Port of /metrics, /healthz and /readyz, say 9464; of several processes each takes the next."
        ),
    ] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address that it listens on; default all.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes; default one per accelerator.")] = None,
    supervise: Annotated[bool, typer.Option(help="Start a process again when it dies.")] = True,
    log_level: Annotated[str, typer.Option(help="debug, info, warning, error")] = "info",
    log_format: Annotated[
        LogFormat,
        typer.Option(help="text for people, json for programs: an object per line, with job, parcel, document."),
    ] = LogFormat.TEXT,
    supervisor: Annotated[int | None, typer.Option(hidden=True, help="Process id of the supervisor.")] = None,
    restarts: Annotated[
        str, typer.Option(hidden=True, help="How often this process was started again, by cause.")
    ] = "{}",
    shared_port: Annotated[bool, typer.Option("--shared-port", hidden=True, help="Others listen there, too.")] = False,
) -> None:
    """Serve models: encode what is queued for them and store it.

    Until SIGTERM or Ctrl-C.
    """
    from gristmill.settings import load_settings
    from gristmill_worker.settings import ServerSettings, WorkerSettings

    set_up_logging(log_level, form=log_format)
    if serve:
        with brought_by("serve", "`gristmill worker --serve`"):
            from gristmill_worker.server.beside import serving_beside
    settings = load_settings(
        ServerSettings if serve else WorkerSettings,
        model=model[0] if model else None,
        reranker=reranker,
        device=device,
        dtype=dtype,
        threads=threads,
        budget_tokens=budget_tokens,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
    )
    if recalibrate:
        from gristmill_worker.encoder.local.budget.kept import Budgets

        Budgets().forget()
    if supervise:
        from gristmill_worker.process.supervisor import placements, prepare
        from gristmill_worker.process.supervisor import supervise as run

        models = model or [settings.model]
        prepare(models, settings.revision)
        both = models if settings.reranker is None else [*models, settings.reranker]
        prepare(both[len(models) :], settings.reranker_revision)
        devices = placements(settings.device, both, processes)
        shared = ["--shared-port"] if serve and len(devices) > 1 else []
        raise typer.Exit(run([*_arguments(sys.argv), *shared], devices, settings.metrics_port))
    from gristmill_worker.process.app import run_worker

    work = partial(
        run_worker, settings, model or (), ready=_say_ready, supervisor=supervisor, restarts=json.loads(restarts)
    )
    if not isinstance(settings, ServerSettings):
        work()
        return
    with serving_beside(settings, share=shared_port) as beside:
        work(beside=beside)


def _arguments(argv: list[str]) -> list[str]:
    """The arguments after `worker`, without those that concern the supervisor, or are done once."""
    given = argv[argv.index("worker") + 1 :]
    kept: list[str] = []
    skip = False
    for argument in given:
        if skip:
            skip = False
        elif argument in ("--processes", "--metrics-port"):
            skip = True
        elif not argument.startswith(("--processes=", "--metrics-port=")) and argument not in (
            "--supervise",
            "--recalibrate",
        ):
            kept.append(argument)
    return kept


def _say_ready(host: Host) -> None:
    for engine in host.engines.values():
        status = engine.status()
        logging.getLogger("gristmill").info(
            "ready: %s on %s in %s, budget %d tokens per batch",
            status["model"],
            status["device"],
            status["dtype"],
            status["budget_tokens"],
        )
    for reranker in host.rerankers.values():
        logging.getLogger("gristmill").info("ready: reranker %s on %s", reranker.info.model, reranker.device)
