"""Grafana's dashboard, as a table of panels. `make docs` writes it to `compose/grafana/dashboards/gristmill.json`.

It is built by Grafana's own library, whose types are those of the dashboard's format: no Grafana is at hand to ask.
What every worker says of the ledger alike is taken once (`max`), all else is added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
#: Heights of a picture and of a number, in Grafana's rows.
_HIGH, _LOW = 8, 4

_OWN: Final = 'model=~"$model", instance=~"$instance"'
_RATE: Final = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: queries with the words of their legend."""

    title: str
    meaning: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    columns: int = 8
    style: Literal["lines", "stacked", "number"] = "lines"
    #: Whether Prometheus has an answer as soon as a worker has done some work. Not so: what went wrong, and a rate that
    #: takes full batches to be measured.
    core: bool = True


def _rate(name: str, by: str, labels: str = "") -> str:
    chosen = f"{labels}, {_OWN}" if labels else _OWN
    return f"sum by ({by}) (rate({name}{{{chosen}}}[{_RATE}]))"


def _quantile(name: str, by: str, quantile: float = 0.95, labels: str = _OWN) -> str:
    return f"histogram_quantile({quantile}, sum by (le, {by}) (rate({name}_bucket{{{labels}}}[{_RATE}])))"


def _said(name: str, by: str, labels: str = 'model=~"$model"') -> str:
    """What the ledger holds, which every worker says alike."""
    return f"max by ({by}) ({name}{{{labels}}})"


def _share(kind: str, of: str) -> str:
    """Of the tokens of batches, those of one kind."""
    part, whole = (_rate("gristmill_batch_tokens_total", "model", f'kind=~"{each}"') for each in (kind, of))
    return f"{part} / {whole}"


_HERE: Final = 'instance=~"$instance"'

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "At a glance": (
        Panel(
            "Documents stored",
            "Per second, of the chosen models and workers.",
            "suffix: docs/s",
            ((f'sum(rate(gristmill_documents_total{{outcome="stored", {_OWN}}}[{_RATE}]))', ""),),
            4,
            "number",
        ),
        Panel(
            "Useful tokens",
            "Tokens per second of documents that were stored: what the devices are for.",
            "suffix: tok/s",
            ((f'sum(rate(gristmill_document_tokens_total{{outcome="stored", {_OWN}}}[{_RATE}]))', ""),),
            4,
            "number",
        ),
        Panel(
            "Seconds of work",
            "How long all workers of a model together need for what waits, as measured. Scale on it.",
            "s",
            ((_said("gristmill_queue_work_seconds", "model"), "{{model}}"),),
            4,
            "number",
            core=False,
        ),
        Panel(
            "Workers ready",
            "Processes that take work.",
            "none",
            ((f"sum(gristmill_ready{{{_HERE}}})", ""),),
            4,
            "number",
        ),
        Panel(
            "Waiting for",
            "What workers wait for or hold back, and how many do; empty where nobody does. gristmill doctor says the rest.",
            "none",
            ((f"sum by (cause) (gristmill_waiting{{{_HERE}}}) > 0", "{{cause}}"),),
            4,
            "number",
            core=False,
        ),
        Panel(
            "Dead letters kept",
            "Documents that were given up, with their reason: gristmill dead summary.",
            "none",
            (("sum(max by (reason) (gristmill_dead_letters_kept))", ""),),
            4,
            "number",
            core=False,
        ),
    ),
    "Throughput": (
        Panel(
            "Documents by outcome",
            "What became of documents and deletions. `superseded` high: the same documents are enqueued again and again.",
            "suffix: docs/s",
            ((_rate("gristmill_documents_total", "outcome"), "{{outcome}}"),),
            style="stacked",
        ),
        Panel(
            "Tokens by lane",
            "What the models read, padding left out: documents (bulk), queries (interactive), requests (http).",
            "suffix: tok/s",
            ((_rate("gristmill_tokens_total", "lane"), "{{lane}}"),),
            style="stacked",
        ),
        Panel(
            "Useful tokens by model",
            "Beside what a worker reaches in full batches; far below it while work waits: see where the time goes.",
            "suffix: tok/s",
            (
                (_rate("gristmill_document_tokens_total", "model", 'outcome="stored"'), "{{model}}"),
                (f"sum by (model) (gristmill_tokens_rate{{{_OWN}}})", "{{model}}, in full batches"),
            ),
            core=False,
        ),
    ),
    "Where the time goes": (
        Panel(
            "Busy, and idle by cause",
            "Seconds per second of all models' devices. store, broker, model_server: it is slow or away; tokens: more "
            "cores for the tokenizer; no_work: fewer workers would do.",
            "s",
            (
                (f"sum(rate(gristmill_busy_seconds_total{{{_OWN}}}[{_RATE}]))", "busy"),
                (_rate("gristmill_idle_seconds_total", "cause"), "idle: {{cause}}"),
            ),
            style="stacked",
        ),
        Panel(
            "Wait against work, 95 %",
            "How long work waits until it is taken, and how long it is on the model. Waits alone grow: more workers.",
            "s",
            (
                (_quantile("gristmill_queue_wait_seconds", "lane"), "wait: {{lane}}"),
                (_quantile("gristmill_encode_seconds", "lane"), "encode: {{lane}}"),
            ),
        ),
        Panel(
            "A parcel's way by stage",
            "Threads that are at each stage, on average. The largest says what a parcel waits for.",
            "none",
            ((_rate("gristmill_stage_seconds_sum", "stage"), "{{stage}}"),),
            style="stacked",
        ),
    ),
    "Batches": (
        Panel(
            "Fill",
            "Useful tokens of what batches could have held. Low while work waits: more GRISTMILL_THREADS.",
            "percentunit",
            ((_share("useful", of="budget"), "{{model}}"),),
        ),
        Panel(
            "Padding",
            "Of all tokens that batches held. It stays 0 where batches are packed.",
            "percentunit",
            ((_share("padding", of="useful|padding"), "{{model}}"),),
        ),
        Panel(
            "The batch on the device",
            "How long the longest has been there. It grows without end: the device hangs, nvidia-smi.",
            "s",
            ((f"max by (instance, model) (gristmill_batch_running_seconds{{{_OWN}}})", "{{instance}} {{model}}"),),
        ),
    ),
    "Queue": (
        Panel(
            "Waiting, by model and lane",
            "Parcels (bulk) and queries (interactive) that nobody has in hand.",
            "none",
            ((_said("gristmill_queue_depth", "model, lane"), "{{model}} {{lane}}"),),
        ),
        Panel(
            "Seconds of work",
            "What autoscalers see.",
            "s",
            ((_said("gristmill_queue_work_seconds", "model"), "{{model}}"),),
            core=False,
        ),
        Panel(
            "Oldest work",
            "It grows while nothing is finished: nobody takes work. It grows while others are taken: it is their turn.",
            "s",
            ((_said("gristmill_queue_oldest_seconds", "model, lane"), "{{model}} {{lane}}"),),
        ),
        Panel(
            "Workers by model",
            "Who serves a model, and who loads it. None, with work waiting: gristmill worker --model MODEL.",
            "none",
            ((_said("gristmill_queue_workers", "model, state"), "{{model}} {{state}}"),),
        ),
        Panel(
            "Unfinished documents",
            "Waiting or in hand.",
            "none",
            ((_said("gristmill_queue_documents", "model"), "{{model}}"),),
        ),
        Panel(
            "The queue and its mark",
            "Above the mark producers wait, or get QueueFull.",
            "bytes",
            (("max(gristmill_ledger_bytes)", "taken"), ("max(gristmill_ledger_limit_bytes)", "mark")),
        ),
        Panel(
            "Tenants",
            "Who has unfinished work; at their limit: whose producers wait, or get QueueFull. gristmill tenants list.",
            "none",
            (("max(gristmill_tenants_waiting)", "with work"), ("max(gristmill_tenants_limited)", "at their limit")),
        ),
        Panel(
            "Webhooks",
            "What is sent, sent again and given up, by reason: gristmill webhooks list.",
            "suffix: webhooks/s",
            (
                (f"sum(rate(gristmill_webhooks_delivered_total{{{_HERE}}}[{_RATE}]))", "delivered"),
                (
                    f"sum by (reason) (rate(gristmill_webhooks_retried_total{{{_HERE}}}[{_RATE}])) > 0",
                    "again: {{reason}}",
                ),
                (
                    f"sum by (reason) (rate(gristmill_webhooks_given_up_total{{{_HERE}}}[{_RATE}])) > 0",
                    "given up: {{reason}}",
                ),
            ),
            style="stacked",
            core=False,
        ),
        Panel(
            "Webhooks not delivered",
            "They wait to be sent, or were given up and are kept. It stays above 0: gristmill webhooks list.",
            "none",
            (("max(gristmill_webhooks_undelivered)", ""),),
        ),
    ),
    "Errors": (
        Panel(
            "Dead letters by reason",
            "Documents given up, per second: gristmill dead list --error REASON.",
            "suffix: docs/s",
            ((_rate("gristmill_dead_letters_total", "reason"), "{{reason}}"),),
            style="stacked",
        ),
        Panel(
            "Attempts by result",
            "Parcels. returned costs nothing; failed: the log says why; lost: another worker took over.",
            "suffix: parcels/s",
            ((_rate("gristmill_attempts_total", "result"), "{{result}}"),),
            style="stacked",
        ),
        Panel(
            "Requests that failed",
            "To Qdrant and to Redis, by the error's class: gristmill doctor.",
            "suffix: errors/s",
            (
                (_rate("gristmill_store_errors_total", "error"), "Qdrant: {{error}}"),
                (f"sum by (error) (rate(gristmill_broker_errors_total{{{_HERE}}}[{_RATE}]))", "Redis: {{error}}"),
            ),
        ),
    ),
    "Queries and requests": (
        Panel(
            "Queries by result",
            "expired: they waited too long.",
            "suffix: queries/s",
            ((_rate("gristmill_queries_total", "result"), "{{result}}"),),
            style="stacked",
        ),
        Panel(
            "A query's seconds",
            "From its being taken to its vectors.",
            "s",
            (
                (_quantile("gristmill_query_seconds", "model", 0.5), "{{model}} 50 %"),
                (_quantile("gristmill_query_seconds", "model", 0.95), "{{model}} 95 %"),
            ),
            core=False,
        ),
        Panel(
            "HTTP requests",
            "Of gristmill serve and of workers with --serve.",
            "suffix: requests/s",
            ((f"sum by (path, status) (rate(gristmill_requests_total{{{_HERE}}}[{_RATE}]))", "{{path}} {{status}}"),),
            core=False,
        ),
    ),
    "Qdrant and Redis": (
        Panel(
            "Qdrant, 95 %",
            "One request: read, write, change; failed ones too.",
            "s",
            ((_quantile("gristmill_store_seconds", "operation"), "{{operation}}"),),
        ),
        Panel(
            "Redis, 95 %",
            "One call of the ledger.",
            "s",
            ((_quantile("gristmill_broker_seconds", "operation", labels=_HERE), "{{operation}}"),),
        ),
        Panel(
            "Redis's memory",
            "Above 7/8 of its maxmemory producers wait.",
            "bytes",
            (
                ("max(gristmill_broker_memory_bytes)", "used"),
                ("max(gristmill_broker_memory_limit_bytes)", "maxmemory"),
                ("max(gristmill_dead_letter_bytes)", "dead letters"),
            ),
        ),
    ),
    "Workers": (
        Panel(
            "CPU",
            "Cores at work.",
            "none",
            ((f"rate(process_cpu_seconds_total{{{_HERE}}}[{_RATE}])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "In RAM, without the device's own.",
            "bytes",
            ((f"process_resident_memory_bytes{{{_HERE}}}", "{{instance}}"),),
        ),
        Panel(
            "Started again",
            "By the supervisor, by cause; by whoever starts a whole worker anew. The kernel's log, gristmill dead summary.",
            "none",
            (
                (f"sum by (cause) (increase(gristmill_restarts_total{{{_HERE}}}[1h])) > 0", "{{cause}}"),
                (f"changes(process_start_time_seconds{{{_HERE}}}[1h]) > 0", "{{instance}}"),
            ),
            core=False,
        ),
    ),
}


#: All of them, in the page's order.
PANELS: Final = tuple(chain.from_iterable(ROWS.values()))


def page() -> str:
    """The dashboard's JSON."""
    built = dashboard.Dashboard("Gristmill").uid("gristmill").tags(["gristmill"]).readonly().refresh("30s")
    built = built.time("now-3h", "now").tooltip(models.DashboardCursorSync.CROSSHAIR).timezone("browser")
    built = built.description(
        "Documents on their way into Qdrant: how many, how fast, what they wait for, what went wrong."
    )
    for variable in _variables():
        built = built.with_variable(variable)
    for title, row in ROWS.items():
        built = built.with_row(dashboard.Row(title))
        for panel in row:
            built = built.with_panel(_built(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _variables() -> Iterator[Builder[models.VariableModel]]:
    yield dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    for name, metric in (("model", "gristmill_queue_depth"), ("instance", "gristmill_ready")):
        yield (
            dashboard.QueryVariable(name)
            .label(name.capitalize())
            .datasource(SOURCE)
            .query(f"label_values({metric}, {name})")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )


def _built(panel: Panel) -> Any:
    made: Any = _number() if panel.style == "number" else _lines(stacked=panel.style == "stacked")
    made = made.title(panel.title).description(panel.meaning).unit(panel.unit).datasource(SOURCE)
    made = made.span(panel.columns).height(_LOW if panel.style == "number" else _HIGH)
    for number, (query, legend) in enumerate(panel.queries):
        made = made.with_target(
            prometheus.Dataquery().expr(query).legend_format(legend or "__auto").ref_id(chr(ord("A") + number)).range()
        )
    return made


def _number() -> Any:
    return stat.Panel().graph_mode(looks.BigValueGraphMode.AREA).color_mode(looks.BigValueColorMode.NONE)


def _lines(*, stacked: bool) -> Any:
    made = timeseries.Panel().min(0).line_width(1).fill_opacity(25 if stacked else 0)
    made = made.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(looks.LegendDisplayMode.LIST)
        .placement(looks.LegendPlacement.BOTTOM)
    )
    made = made.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
    return made.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL)) if stacked else made
