"""`gristmill verify-model`: the command around `verify`, which is loaded when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gristmill.cli.layout import fields, listing
from gristmill.cli.output import JsonFlag, print_json
from gristmill.extras import brought_by

if TYPE_CHECKING:
    from gristmill_worker.verify.rows import Row

app = typer.Typer()


@app.command("verify-model")
def verify_model(
    model: Annotated[str, typer.Argument(help="Folder, hub id, demo, or an OpenAI-compatible server's URL#NAME.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    language: Annotated[
        list[str] | None, typer.Option(help="en or zh: example pairs to be asked; both if left out.")
    ] = None,
    max_startup_s: Annotated[float, typer.Option(min=0, help="Most seconds that loading may take.")] = 15.0,
    max_memory_gb: Annotated[float, typer.Option(min=0, help="Most memory, in 10^9 bytes.")] = 3.0,
    as_json: JsonFlag = False,
) -> None:
    """Check a model: published scores, pairs, speed, memory.

    Exit code 1 where a check fails. The bounds are for models of Qwen3-Embedding-0.6B's size: larger ones need their own.
    """
    with brought_by("worker", "`gristmill verify-model`"):
        from gristmill_worker.verify.run import Expectations, verify

    expected = Expectations(startup_s=max_startup_s, memory_gb=max_memory_gb)
    if language:
        expected = expected.among(language)
    report = verify(model, revision=revision, device=device, dtype=dtype, expected=expected)
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        fields({"model": report.model, "device": report.device, "dtype": report.dtype})
        _show(report.checks)
    if not report.ok:
        raise typer.Exit(1)


def _show(rows: Sequence[Row]) -> None:
    listing(
        ("check", "value", "expected", "verdict", "why"),
        [(row.check, _number(row.value), row.expected, str(row.verdict), row.why) for row in rows],
        prose=True,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
