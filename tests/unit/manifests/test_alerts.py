"""The alerts that are shipped: their tests by promtool, their metrics, their place in the runbook and on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests import REPO, run_tool
from promql import faults_of

RULES = REPO / "compose" / "prometheus" / "alerts.yml"
UNIT_TESTS = Path(__file__).with_name("alerts.test.yml")
RUNBOOK = REPO / "docs" / "runbook.md"


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_promtool_accepts_the_rules() -> None:
    assert "SUCCESS" in run_tool("promtool", "check", "rules", str(RULES))


def test_every_alert_fires_on_its_trouble_and_none_in_a_mill_that_is_well() -> None:
    assert "SUCCESS" in run_tool("promtool", "test", "rules", str(UNIT_TESTS))


def test_every_alert_has_a_test_in_which_it_fires_and_is_silent_in_a_healthy_mill() -> None:
    healthy, *planted = yaml.safe_load(UNIT_TESTS.read_text("utf-8"))["tests"]
    silent = {each["alertname"] for each in healthy["alert_rule_test"] if not each["exp_alerts"]}
    fires = {each["alertname"] for test in planted for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert silent == fires == set(rules())


@pytest.mark.parametrize("alert", rules())
def test_an_alert_asks_for_series_that_a_worker_exports(alert: str) -> None:
    assert faults_of(rules()[alert]["expr"]) == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("gristmill_nothing > 0", "no such metric: gristmill_nothing"),
        ('gristmill_waiting{reason="store"}', "gristmill_waiting has no label reason"),
        ('gristmill_waiting{cause="shop"}', "gristmill_waiting has no cause shop"),
        ("sum by (colour) (gristmill_ready)", "no metric of sum by (colour) (gristmill_ready) has the label colour"),
    ],
)
def test_a_query_that_asks_for_what_nobody_exports_is_found(query: str, fault: str) -> None:
    assert faults_of(query) == [fault]


@pytest.mark.parametrize("alert", rules())
def test_an_alert_says_how_grave_it_is_what_it_is_and_where_to_read_on(alert: str) -> None:
    rule = rules()[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbook.md#{alert.lower()}")


def test_the_runbook_has_a_section_for_every_alert() -> None:
    titles = re.findall(r"^#+ `?(\w+)`?\s*$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert sorted(rules().keys() - set(titles)) == []
