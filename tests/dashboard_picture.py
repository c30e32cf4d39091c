"""The picture of Grafana's dashboard in `docs/howto/operating.md`, over a real mill at work.

Panels, places, queries and legends are those of the file that is provisioned, the answers those of a real Prometheus. No
Grafana can be had here, so the drawing alone is ours.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import plotly.graph_objects as plots
from plotly.offline import get_plotlyjs

from generated_pages import DASHBOARD
from live_page import PATIENCE_MS

NAME = "dashboard.png"
WIDTH, HEIGHT = 1280, 1024
#: A row of Grafana's, and what lies between two, pixels.
_ROW, _GAP = 26, 6
_STYLE = f"""
body {{ margin: 0; width: {WIDTH}px; background: #f4f5f5; font: 13px sans-serif; color: #24292e }}
main {{ display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: {_ROW}px; gap: {_GAP}px; padding: {_GAP}px }}
section {{ background: #fff; border: 1px solid #dcdfe4; border-radius: 2px; overflow: hidden }}
h2 {{ margin: 0; align-self: center; font-size: 15px }} h3 {{ margin: 5px 8px 0; font-size: 13px }}
p {{ margin: 18px 8px; font-size: 22px; text-align: center; white-space: nowrap }}
"""


@dataclass(frozen=True)
class Line:
    """One line of a panel."""

    name: str
    times: list[datetime]
    values: list[float]


class Answers(Protocol):
    """A Prometheus."""

    def over(self, query: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """See `PrometheusServer.over`."""


@dataclass(frozen=True)
class Seen:
    """A stretch of time, as a Prometheus has it."""

    prometheus: Answers
    start: float
    end: float

    def lines(self, panel: dict[str, Any]) -> Iterator[Line]:
        """What a panel's queries give, with everything chosen."""
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "15s")
            query = re.sub(r"\$(model|instance)", ".*", query)
            for found in self.prometheus.over(query, self.start, self.end, step_s=1):
                labels = found["metric"]
                legend = target["legendFormat"].replace("__auto", "")
                named = re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend)  # noqa: B023
                times = [datetime.fromtimestamp(at, UTC) for at, _ in found["values"]]
                yield Line(named, times, [float(value) for _, value in found["values"]])


def take(browser: Any, seen: Seen, folder: Path) -> Path:
    """Write the picture of the dashboard's upper part, and return where it is."""
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    tab.set_default_timeout(PATIENCE_MS)
    tab.set_content(page_of(json.loads(DASHBOARD.read_text("utf-8")), seen))
    tab.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 0")
    path = folder / NAME
    tab.screenshot(path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT}, scale="css")
    tab.context.close()
    return path


def page_of(dashboard: dict[str, Any], seen: Seen) -> str:
    """The dashboard as a page of HTML that needs nothing else."""
    parts = "".join(_placed(panel, seen) for panel in dashboard["panels"] if panel["gridPos"]["y"] * _ROW < HEIGHT)
    script = f"<script>{get_plotlyjs()}</script>"
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{script}<main>{parts}</main>"


def _placed(panel: dict[str, Any], seen: Seen) -> str:
    at, title = panel["gridPos"], html.escape(panel["title"])
    place = f"grid-column: {at['x'] + 1} / span {at['w']}; grid-row: {at['y'] + 1} / span {at['h']}"
    if panel["type"] == "row":
        return f'<h2 style="{place}">{title}</h2>'
    lines = list(seen.lines(panel))
    drawn = _number(panel, lines) if panel["type"] == "stat" else _curves(panel, lines)
    return f'<section style="{place}"><h3>{title}</h3>{drawn}</section>'


def _number(panel: dict[str, Any], lines: list[Line]) -> str:
    last = [f"{line.values[-1]:,.4g}{_suffix(panel)}" for line in lines]
    return f"<p>{html.escape(' · '.join(last) or '–')}</p>"


def _curves(panel: dict[str, Any], lines: list[Line]) -> str:
    at = panel["gridPos"]
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    figure = plots.Figure(
        [
            plots.Scatter(
                x=line.times,
                y=line.values,
                name=line.name,
                mode="lines",
                line={"width": 1},
                stackgroup="all" if stacked else None,
            )
            for line in lines
        ]
    )
    figure.update_layout(
        width=(WIDTH - _GAP) * at["w"] // 24 - _GAP - 4,
        height=at["h"] * (_ROW + _GAP) - _GAP - 24,
        margin={"l": 52, "r": 10, "t": 6, "b": 10},
        plot_bgcolor="#fff",
        showlegend=True,
        legend={"orientation": "h", "y": -0.18, "font": {"size": 10}},
        font={"size": 10},
    )
    figure.update_xaxes(gridcolor="#e8e9ec", tickformat="%H:%M:%S", nticks=5)
    how = {"tickformat": ".0%"} if panel["fieldConfig"]["defaults"]["unit"] == "percentunit" else {"tickformat": "~s"}
    figure.update_yaxes(gridcolor="#e8e9ec", rangemode="tozero", nticks=5, ticksuffix=_suffix(panel), **how)
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"staticPlot": True})
    return drawn


def _suffix(panel: dict[str, Any]) -> str:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return {"s": " s", "bytes": "B"}.get(
        unit, f" {unit.removeprefix('suffix: ')}" if unit.startswith("suffix: ") else ""
    )
