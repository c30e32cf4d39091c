"""Which of the shipped alerts fire if what was scraped goes on: told by `promtool test rules`, as Prometheus tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from manifests import REPO, run_tool
from scraping import Series

RULES = REPO / "compose" / "prometheus" / "alerts.yml"
#: Longer than any alert waits.
MINUTES = 60
_COUNTER = ("_total", "_count", "_sum", "_bucket")
#: Gauges that grow with time until what they tell of ends.
_AGES = ("gristmill_batch_running_seconds", "gristmill_queue_oldest_seconds")


def firing(*pages: Mapping[Series, float], seconds: float, scratch: Path) -> set[str]:
    """The alerts that fire after an hour.

    Args:
        pages: of one worker, one after the other, a minute apart as Prometheus sees them.
        seconds: how far apart the last two really were. Counters and ages go on as they did in between; all else stays.
        scratch: a folder for promtool's files.
    """
    told = RULES.read_text("utf-8")
    names = [rule["alert"] for group in yaml.safe_load(told)["groups"] for rule in group["rules"]]
    every = {series: None for page in pages for series in page if series[0] in told}
    tests = [{"eval_time": f"{MINUTES - 1}m", "alertname": name, "exp_alerts": []} for name in names]
    series = [*_up(pages), *(_input(each, pages, seconds) for each in every)]
    file = scratch / "planted.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES)],
                "evaluation_interval": "1m",
                "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": tests}],
            }
        )
    )
    return set(re.findall(r"alertname: (\w+)", run_tool("promtool", "test", "rules", str(file), may_fail=True)))


def _up(pages: tuple[Mapping[Series, float], ...]) -> Iterator[dict[str, Any]]:
    values = " ".join("1" if page else "0" for page in pages)
    yield {"series": 'up{job="gristmill", instance="planted"}', "values": f"{values} {values[-1]}x{MINUTES}"}


def _input(series: Series, pages: tuple[Mapping[Series, float], ...], seconds: float) -> dict[str, Any]:
    name, labels = series
    seen = [page.get(series) for page in pages]
    first = " ".join("_" if each is None else f"{each:g}" for each in seen[:-1])
    last, before = seen[-1], seen[-2] if len(seen) > 1 else None
    written = ", ".join(f'{key}="{value}"' for key, value in sorted(labels))
    if last is None:
        values = f"{first} _x{MINUTES}"
    else:
        grows = 0.0 if before is None else max(0.0, last - before) * 60 / seconds
        grows = grows if name.endswith(_COUNTER) or name in _AGES else 0.0
        values = f"{first} {last:.3f}+{grows:.3f}x{MINUTES}"
    return {"series": f'{name}{{job="gristmill", instance="planted", {written}}}', "values": values}
