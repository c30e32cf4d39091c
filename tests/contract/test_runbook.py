"""Whatever an alert, `gristmill doctor` or the live page can say has its place in docs/runbook.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill.maintenance.troubles import Kind
from gristmill.maintenance.troubles.trouble import SENTENCES
from gristmill_worker.metering.meter import DEATHS
from gristmill_worker.process.metrics.worker import RESTARTS
from gristmill_worker.vital_threads import Exit
from gristmill_worker.waiting.notices import Waits

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
HEADINGS = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
DOCTORS = (ROOT / "plugin/gristmill/cli/doctor.py", ROOT / "worker/gristmill_worker/doctor.py")


def alerts() -> set[str]:
    """Every alert that we tell people to set, in files and on pages."""
    rules = [path.read_text("utf-8") for path in (ROOT / "compose").rglob("*.y*ml")]
    blocks = [
        block
        for page in (ROOT / "docs").rglob("*.md")
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    return {found for text in (*rules, *blocks) for found in re.findall(r"^ *- alert: (\w+)$", text, re.MULTILINE)}


def failing_checks(path: Path) -> Iterator[str]:
    """Names of the checks that may say FAIL: those under guard, and those whose verdict is not always True."""
    for call in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.args):
            continue
        name, verdict = call.args[0], (call.args[1] if len(call.args) > 1 else None)
        always = call.func.id == "Check" and isinstance(verdict, ast.Constant) and verdict.value is True
        if call.func.id in ("Check", "_guarded") and isinstance(name, ast.Constant) and not always:
            yield str(name.value)


def test_every_alert_has_a_section_of_its_name() -> None:
    assert len(alerts()) >= 10
    assert sorted(alerts() - set(HEADINGS)) == []


def test_every_section_that_is_named_like_an_alert_is_one() -> None:
    assert sorted({heading for heading in HEADINGS if re.fullmatch(r"Gristmill\w+", heading)} - alerts()) == []


@pytest.mark.parametrize("kind", Kind)
def test_every_sentence_of_the_live_page_stands_in_the_runbook(kind: Kind) -> None:
    assert re.sub(r"\{[^}]*\}", "…", SENTENCES["en"][kind][0]) in RUNBOOK


def test_every_finding_of_doctor_stands_in_the_runbook() -> None:
    names = {name for path in DOCTORS for name in failing_checks(path)}
    assert {"redis", "qdrant", "metrics", "scores"} <= names
    assert (
        sorted(name for name in names if f"FAIL {name}`" not in RUNBOOK and f"doctor's `{name}`" not in RUNBOOK) == []
    )


def test_whatever_a_worker_can_wait_for_stands_in_the_runbook() -> None:
    assert sorted(waits for waits in Waits if f"`{waits}`" not in RUNBOOK) == []


def test_whatever_a_document_can_die_of_stands_in_the_runbook() -> None:
    assert [reason for reason in (*DEATHS, "other") if f"| `{reason}` |" not in RUNBOOK] == []


def test_however_a_process_can_end_stands_in_the_runbook() -> None:
    assert sorted(cause for cause in RESTARTS if f"`{cause}`" not in RUNBOOK and f'"{cause}"' not in RUNBOOK) == []
    assert sorted(each for each in Exit if f"| {each.value} | `{each.name.lower()}` |" not in RUNBOOK) == []


def test_every_section_says_what_is_seen_or_what_to_type() -> None:
    sections = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
    assert [text.splitlines()[0] for text in sections if "**See**" not in text and "**Type**" not in text] == []


def test_every_link_within_the_runbook_leads_to_a_section() -> None:
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS}
    assert sorted(set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) - anchors) == []
