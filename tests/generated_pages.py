"""Pages of `docs/` that are made from the code. `make docs` writes them; a test keeps them equal to it."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from pydantic_core import PydanticUndefined

from gristmill.settings import variable
from gristmill_worker.process.metrics.catalogue import CHAPTERS, Metric
from gristmill_worker.settings import ServerSettings
from reference_pages import command_line_page, wire_page
from wrong_inputs import collect, page_of

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
COMPOSE = REFERENCE.parents[1] / "compose"
ALERTS = COMPOSE / "prometheus" / "alerts.yml"
DASHBOARD = COMPOSE / "grafana" / "dashboards" / "gristmill.json"
RULE = COMPOSE / "kubernetes" / "components" / "monitoring" / "alerts.yaml"

_SETTINGS = """# Settings

Environment variables, or a `.env` file in the working directory; the variable wins. A client takes each by its name
without the prefix: `Client(redis_url=…)`. `gristmill doctor` shows every one with its value (secrets hidden) and its source.

<!-- Made by `make docs` from the settings classes: change those. -->
"""


def settings_page() -> str:
    """`docs/reference/settings.md`: every setting with its default and its meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in ServerSettings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| `{variable(name)}` | {default} | {_linked(field.description or '')} |")
    return _SETTINGS + "\n" + "\n".join(rows) + "\n"


def _linked(meaning: str) -> str:
    """Pages are named from the repository's root, for whoever reads the code; here they are links."""
    return re.sub(r"docs/([\w/-]+)\.md", r"[\1](../\1.md)", meaning)


_METRICS = """# Metrics

`gristmill worker --metrics-port 9464` (or `GRISTMILL_METRICS_PORT`; unset, no port is open) answers on a port of its
own, from before its model is loaded until the process ends:

| path | |
|---|---|
| `/metrics` | what follows, in Prometheus's format or OpenMetrics |
| `/healthz` | 200, or 503 with the reason: does the process move, as `gristmill health --live` judges; no server matters |
| `/readyz` | 200, or 503 with the reason: is it warm, and takes work, as `gristmill health --ready` judges |

The probes speak for the process, its supervisor, and that one's other processes. The page asks nobody: what it says
of the ledger a duty reads every five seconds, so a Redis that hangs delays no scrape. It names models, and no
document, collection or tenant. The port listens on all addresses (`GRISTMILL_METRICS_HOST`).

**Several processes** (one per accelerator) take a port each: `--metrics-port 9464` with four means 9464 to 9467, and
a process that is started again takes the same. Let Prometheus scrape all of them and add up:
`sum(rate(gristmill_documents_total[5m]))`. What is the ledger's, and not one worker's, every worker says alike:
`max`, not `sum`. Prometheus's multiprocess mode is not used: it keeps files per process that somebody must clean up,
and adds gauges of processes that have ended.

**Exact.** Summed over the workers, `gristmill_documents_total` is what the jobs' reports say, since a document counts
where and when the ledger takes the verdict on it. What an application ends by itself, such as erasing a tenant, is in
its job's report alone. A process that is killed takes with it what was not scraped yet, and a parcel whose verdict
Redis took while its answer was lost on the way is counted in the report alone.

```yaml
scrape_configs:
  - job_name: gristmill
    static_configs: [{ targets: ["gpu-1:9464", "gpu-1:9465", "gpu-2:9464"] }]
```

<!-- Made by `make docs` from process/metrics/catalogue.py and compose/prometheus/alerts.yml: change those. -->
"""

#: What is seen, what it is, and what to type.
_SIGNS = (
    (
        '`gristmill_waiting{cause="store"}` is 1, `gristmill_store_errors_total` rises, nothing is stored',
        "Qdrant is away, or refuses",
        '`curl "$GRISTMILL_QDRANT_URL/readyz"`, `gristmill doctor`. Work waits and goes on by itself',
    ),
    (
        '`gristmill_waiting{cause="broker_full"}` is 1: `gristmill_broker_memory_bytes` is 7/8 of its limit',
        "Redis is full: producers wait, or get QueueFull",
        '`redis-cli -u "$GRISTMILL_REDIS_URL" config set maxmemory …`; `gristmill dead summary` and '
        "`gristmill queue` say what fills it",
    ),
    (
        "`changes(process_start_time_seconds[15m])` above 0, `gristmill_parcels_taken_over_total` rises; later "
        '`gristmill_dead_letters_total{reason="AttemptsExhausted"}`',
        "documents kill workers, or memory runs out",
        "`gristmill dead list --error AttemptsExhausted`, the kernel's log",
    ),
    (
        "`gristmill_queue_parcels` above 0 and `gristmill_queue_workers` 0 for a model, in other models'"
        " workers; no `up` at all where there are none",
        "no worker for a model",
        "`gristmill worker --model MODEL`",
    ),
    (
        '`gristmill_waiting{cause="device"}` is 1: `gristmill_batch_running_seconds` is above 30 and grows',
        "a device hangs; the process ends itself after `gristmill_encode_timeout_seconds`",
        "`nvidia-smi`, then `kill -KILL PID` of the worker: its supervisor starts it again",
    ),
    (
        '`gristmill_idle_seconds_total{cause="store"}` grows by 0.4 a second or more while work waits, '
        "requests in `gristmill_store_seconds` take a second; where they take longer than their deadline, "
        '`gristmill_waiting{cause="store"}` is 1 while `/readyz` answers in between',
        "a slow store",
        '`curl "$GRISTMILL_QDRANT_URL/metrics"`, its disk, its optimizers',
    ),
    (
        '`gristmill_waiting{cause="model_server"}` is 1, nothing is encoded',
        "a worker waits for its model server",
        "`gristmill doctor` says which and why; mend the server. Work goes on by itself",
    ),
    (
        "`gristmill_dead_letters_total` rises, by `reason`",
        "documents die",
        "`gristmill dead summary`, mend the cause, `gristmill dead replay`",
    ),
)

_TROUBLES = """`gristmill_restarts_total` counts what Gristmill's own supervisor has started again. Under systemd or
Kubernetes, which start a whole worker again, all its counters begin anew: look at
`changes(process_start_time_seconds[15m])`, and at `up == 0`, which is all there is of one that is gone.

As alerts, in [alerts.yml](../../compose/prometheus/alerts.yml), with `job: gristmill` as below:
"""


def metrics_page() -> str:
    """`docs/reference/metrics.md`: every metric with its labels, unit and meaning, and what to do about it."""
    title, port = _METRICS.split("\n\n", 1)
    signs = [
        "| you see | it is | type |",
        "|---|---|---|",
        *(f"| {' | '.join(sign)} |" for sign in _SIGNS),
        "",
        _TROUBLES,
        f"```yaml\n{_alerts()}```",
        "",
        "",
    ]
    lines = [title, "", "## From what you see to what to do", "", *signs, "## The port", "", port]
    for chapter in CHAPTERS:
        lines += [f"## {chapter.title}", "", "| metric | type, unit | meaning | what to do |", "|---|---|---|---|"]
        lines += [*map(_metric_row, chapter.metrics), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _alerts() -> str:
    """The rules as they are shipped, without what their file says of itself."""
    text = ALERTS.read_text("utf-8")
    return text[text.index("groups:") :]


def prometheus_rule() -> str:
    """The alerts for the Prometheus operator. Where workers scale to zero, nobody there is a state like any other."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] != "GristmillNoWorkerAtAll"]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "gristmill", "labels": {"app.kubernetes.io/name": "gristmill"}},
        "spec": {"groups": groups},
    }
    made = "# Made by `make docs` from compose/prometheus/alerts.yml: change that.\n"
    return made + yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=125)


def _metric_row(metric: Metric) -> str:
    labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.name}{labels}` | {metric.kind}, {metric.unit} | {metric.meaning} | {metric.remedy} |"


if __name__ == "__main__":
    # Its small models need torch, and the tests that only want the settings page do not.
    import dashboard
    from families import page

    with TemporaryDirectory() as scratch:
        (REFERENCE / "models.md").write_text(page(Path(scratch)), encoding="utf-8")
    (REFERENCE / "command-line.md").write_text(command_line_page(), encoding="utf-8")
    (REFERENCE / "wire.md").write_text(wire_page(), encoding="utf-8")
    (REFERENCE / "settings.md").write_text(settings_page(), encoding="utf-8")
    DASHBOARD.write_text(dashboard.page(), encoding="utf-8")
    RULE.write_text(prometheus_rule(), encoding="utf-8")
    (REFERENCE / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    (REFERENCE / "wrong-inputs.md").write_text(page_of(collect()), encoding="utf-8")
