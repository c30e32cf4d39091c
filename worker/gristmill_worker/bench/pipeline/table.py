"""The report for people: a line per side and pass, rates in documents per second, CPU in ms per document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gristmill.cli.layout import fields, listing

_COLUMNS: Final = ("", "documents/s", "lowest", "highest", "client ms", "worker ms", "Qdrant ms", "Redis ms")

_FIELDS: Final = (
    *("encoder", "documents", "dimensions", "workers", "torch_threads", "rounds"),
    *("stored", "lost", "duplicates", "rss_mb"),
)


def show(figures: Mapping[str, Any]) -> None:
    """Print what `report` gave."""
    fields((name.replace("_", " "), figures[name]) for name in _FIELDS)
    listing(_COLUMNS, [[_number(value) for value in row] for row in _rows(figures)])
    fields(
        {
            "ceiling fraction": f"{figures['ceiling_fraction']} of the raw upload",
            "efficiency": f"{figures['efficiency']} of the encoder alone",
            "model waited": ", ".join(f"{each:.3f} {cause}" for cause, each in figures["worker_idle"].items() if each)
            or 0,
            **_scaling(figures),
            **_launches(figures),
            **_until_green(figures),
            **{f"points by {each['name']}": f"{each['points']:,}" for each in figures["peers"]},
        }
    )


def _rows(figures: Mapping[str, Any]) -> Iterator[list[object]]:
    for title, kind in (("gristmill, new", ""), ("gristmill, unchanged", "unchanged_")):
        cpu = [figures[f"{who}_cpu_ms_per_{kind}document"] for who in ("producer", "worker", "qdrant", "redis")]
        yield [title, *_rate(figures, f"{kind}documents_per_s"), *cpu]
    if "scaling" in figures:
        yield ["gristmill, one worker", *_rate(figures, "one_worker_documents_per_s"), None, None, None, None]
    client, qdrant = (figures[f"raw_{who}_cpu_ms_per_point"] for who in ("client", "qdrant"))
    yield ["raw upload", *_rate(figures, "raw_points_per_s"), client, None, qdrant, None]
    for peer in figures["peers"]:
        for title, kind in (("new", ""), ("unchanged", "unchanged_")):
            cpu = [peer[f"{kind2}cpu_ms_per_{kind}document"] for kind2 in ("", "qdrant_")]
            yield [f"{peer['name']}, {title}", *_rate(peer, f"{kind}documents_per_s"), cpu[0], None, cpu[1], None]
    yield ["encoder alone", *_rate(figures, "encoder_documents_per_s"), None, None, None, None]


def _rate(figures: Mapping[str, Any], key: str) -> list[float]:
    return [figures[key], *figures["spread"][key]]


def _scaling(figures: Mapping[str, Any]) -> dict[str, str]:
    """Where several workers were compared with one."""
    if "scaling" not in figures:
        return {}
    said = {
        key: "{} ({} to {})".format(figures[key], *figures["spread"][key]) for key in ("scaling", "encoder_scaling")
    }
    return {
        "scaling": f"{said['scaling']} times one worker; encoders alone {said['encoder_scaling']}",
        "efficiency, one worker": f"{figures['one_worker_efficiency']} of one encoder alone",
    }


def _launches(figures: Mapping[str, Any]) -> dict[str, str]:
    """Where a thread launches what a card computes."""
    if not figures["launch_ms"]:
        return {}
    idle = {"card idle": f"{figures['card_idle']:.3f} of the time"} if "card_idle" in figures else {}
    each = {"launch": figures["launch_ms"], "launch, encoder alone": figures["encoder_launch_ms"]}
    return {**idle, **{name: f"{ms['median']} ms, p95 {ms['p95']}" for name, ms in each.items() if ms}}


def _until_green(figures: Mapping[str, Any]) -> dict[str, str | None]:
    """None where nothing was to be indexed."""
    sides = {
        "gristmill": (figures["green_s"], figures["indexed"]),
        "raw": (figures["raw_green_s"], figures["raw_indexed"]),
    }
    sides |= {each["name"]: (each["green_s"], each["indexed"]) for each in figures["peers"]}
    return {
        f"until green, {name}": None if seconds is None else f"{seconds} s, {indexed:,} vectors indexed"
        for name, (seconds, indexed) in sides.items()
    }


def _number(value: object) -> object:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"
    return value
