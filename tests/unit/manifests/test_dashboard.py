"""Grafana's dashboard: what is kept is what the table says, and every query asks for what a worker exports."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

import dashboard
import dashboard_picture
from generated_pages import DASHBOARD
from manifests import COMPOSE, REPO
from promql import faults_of

PROVISIONING = COMPOSE / "grafana" / "provisioning"


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return content


def test_the_dashboard_that_is_provisioned_is_that_of_the_table() -> None:
    assert DASHBOARD.read_text("utf-8") == dashboard.page(), "run: make docs"


def test_grafanas_own_library_reads_it(kept: dict[str, Any]) -> None:
    register_default_plugins()
    read = Dashboard.from_json(kept)
    assert (read.title, read.uid) == ("Gristmill", "gristmill")


@pytest.mark.parametrize("panel", dashboard.PANELS, ids=lambda panel: panel.title)
def test_every_query_asks_for_series_that_a_worker_exports(panel: dashboard.Panel) -> None:
    faults = [fault for query, _ in panel.queries for fault in faults_of(query.replace("$__rate_interval", "5m"))]
    assert faults == []


def test_every_panel_has_a_title_of_its_own_a_unit_a_description_and_its_place(kept: dict[str, Any]) -> None:
    rows = [each for each in kept["panels"] if each["type"] == "row"]
    pictures = [each for each in kept["panels"] if each["type"] != "row"]
    assert [row["title"] for row in rows] == list(dashboard.ROWS)
    assert len(pictures) == len(dashboard.PANELS)
    for each in pictures:
        assert each["title"], each
        assert each["description"].endswith("."), each["title"]
        assert each["fieldConfig"]["defaults"]["unit"], each["title"]
        assert each["datasource"]["uid"] == "${datasource}", each["title"]
    cells = [cell for each in kept["panels"] for cell in cells_of(each["gridPos"])]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24


def test_it_can_be_narrowed_to_a_model_and_a_worker_in_whichever_prometheus(kept: dict[str, Any]) -> None:
    variables = {each["name"]: each for each in kept["templating"]["list"]}
    assert list(variables) == ["datasource", "model", "instance"]
    for name in ("model", "instance"):
        assert variables[name]["query"].endswith(f", {name})")
        assert (variables[name]["multi"], variables[name]["includeAll"], variables[name]["allValue"]) == (
            True,
            True,
            ".*",
        )


def test_what_is_provisioned_finds_the_dashboard_and_prometheus() -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/gristmill.yaml").read_text("utf-8"))["providers"]
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text("utf-8"))["datasources"]
    composed = yaml.safe_load((COMPOSE / "compose.monitoring.yaml").read_text("utf-8"))["services"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in composed["grafana"]["volumes"]
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text("utf-8"))["global"]
    assert source["jsonData"]["timeInterval"] == scraped["scrape_interval"]


def test_the_documentation_shows_a_picture_of_it_that_is_not_heavy() -> None:
    page = REPO / "docs" / "howto" / "operating.md"
    assert f"](images/{dashboard_picture.NAME})" in page.read_text("utf-8")
    assert 10_000 < (page.parent / "images" / dashboard_picture.NAME).stat().st_size < 200_000


class Quiet:
    """A Prometheus that has one line for every query, or none."""

    def __init__(self, values: list[tuple[float, str]]) -> None:
        self._values = values

    def over(self, query: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        assert "$" not in query
        return [{"metric": {"model": "rye"}, "values": self._values}] if self._values else []


@pytest.mark.parametrize("values", [[], [(1.8e9, "1"), (1.8e9 + 1, "2")]])
def test_the_picture_has_every_panel_of_its_part_whatever_prometheus_knows(
    kept: dict[str, Any], values: list[tuple[float, str]]
) -> None:
    page = dashboard_picture.page_of(kept, dashboard_picture.Seen(Quiet(values), 1.8e9, 1.8e9 + 1))
    shown = [
        title
        for title in re.findall(r"<h[23][^>]*>(.+?)</h", page)
        if title in {each["title"] for each in kept["panels"]}
    ]
    assert shown[:8] == ["At a glance", *(each.title for each in dashboard.PANELS[:6]), "Throughput"]
    assert ('"name":"rye"' in page) == bool(values)


def cells_of(place: dict[str, int]) -> list[tuple[int, int]]:
    return [
        (column, line)
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
