"""The report in a real browser: everything drawn, nothing asked of the network, nothing obeyed, room at any width."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gristmill.evaluation.report import page, plots
from waiting import eventually

EVIL = "</script><script>window.obeyed = true</script><img src=x onerror='window.obeyed=true'><b>粗</b>"
WIDTHS = (1280, 390)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra dev brings playwright")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no chromium on PATH: `make services` brings it")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def whole_page() -> str:
    """Every plot, with Chinese labels and one that would break a page."""
    random = np.random.default_rng(1)
    rows = np.repeat(random.normal(size=(3, 16)), 8, axis=0) + 0.3 * random.normal(size=(24, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    labels = [f"用了优惠券但没减钱，第{n}号" for n in range(23)] + [EVIL]
    kinds = [kind for kind in ("支付", "物流", EVIL) for _ in range(8)]
    drawn = [
        plots.similarities(rows, labels),
        plots.map_of(rows, labels, kinds, "类别"),
        plots.gains({"快递怎么还没到": 0.5, EVIL: -0.75, "退款几天到账": 1.0}, ("这一种", EVIL)),
        plots.score_distributions([0.9, 0.85, 0.8, 0.7], [0.75, 0.6, 0.5, 0.4, 0.3]),
        plots.recall_against_latency({"ef=16": (1.2, 0.8), "exact": (4.0, 0.95), EVIL: (2.0, 0.9)}),
    ]
    return page(f"常见问题 {EVIL}", f"120 questions, {EVIL}", drawn)


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str], list[str]]]:
    folder = tmp_path_factory.mktemp("report")
    file = folder / "report.html"
    file.write_text(whole_page(), encoding="utf-8")
    said: list[str] = []
    asked: list[str] = []
    tab = browser.new_page()
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    tab.locator("#plot-4 .scatterlayer .point").first.wait_for(state="attached")
    yield tab, said, asked
    tab.close()


@pytest.mark.slow
def test_every_plot_is_drawn_and_nothing_is_asked_of_the_network(opened: Any) -> None:
    tab, said, asked = opened
    drawn = {
        "heat map": tab.locator("#plot-0 .heatmaplayer image").count(),
        "map": tab.locator("#plot-1 .scatterlayer .trace").count(),
        "gains": tab.locator("#plot-2 .barlayer .point").count(),
        "scores": tab.locator("#plot-3 .barlayer .trace").count(),
        "latency": tab.locator("#plot-4 .scatterlayer .point").count(),
    }
    assert drawn == {"heat map": 1, "map": 3, "gains": 3, "scores": 2, "latency": 3}
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert said == []


@pytest.mark.slow
def test_what_comes_from_outside_is_text_and_nothing_else(opened: Any) -> None:
    tab, _, _ = opened
    assert tab.evaluate("window.obeyed") is None
    assert tab.locator("h1").inner_text() == f"常见问题 {EVIL}"
    assert tab.locator("main b, main img").count() == 0
    assert "支付" in tab.locator("#plot-1").inner_text()
    assert "</script>" in tab.locator("#plot-1 .legend").text_content()


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_its_window(opened: Any, tmp_path: Path, width: int) -> None:
    tab, said, _ = opened
    tab.set_viewport_size({"width": width, "height": 900})
    # Not by `wait_for_function`, which evaluates strings: the page's own policy forbids that.
    widths = "[...document.querySelectorAll('.main-svg')].map((each) => each.clientWidth)"
    eventually(lambda: max(tab.evaluate(widths)) <= width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    shot = tmp_path / f"report-{width}.png"
    tab.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 50_000
    assert said == []


@pytest.mark.slow
def test_nothing_bars_those_who_cannot_see_it(opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra dev brings axe")
    tab, _, _ = opened
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["impact"]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_a_report_is_written_from_questions_and_documents(run: Run, tmp_path: Path) -> None:
    documents, questions, file = (tmp_path / name for name in ("d.jsonl", "q.jsonl", "report.html"))
    rows = [{"id": f"d{n}", "text": f"第{n}条说明", "metadata": {"类别": "支付物流"[n % 4]}} for n in range(12)]
    documents.write_text("\n".join(map(json.dumps, rows)))
    questions.write_text("\n".join(json.dumps({"query": f"第{n}条说明", "expected": f"d{n}"}) for n in range(6)))
    how = [str(questions), "--documents", str(documents), "--model", "hash:16", "-o", str(file)]
    code, out, err = run("eval", "report", *how, "--color", "类别", "--against", "instruction=Find the answer")
    assert (code, "5 plots" in out) == (0, True), err
    assert file.read_text("utf-8").count('class="plot"') == 5
    code, _, err = run("eval", "report", *how, "--color", "类型")
    assert (code, "color: expected a field of the metadata, got '类型'" in err, "类别" in err) == (2, True, True)
    assert run("eval", "report", *how)[0] == 0
    assert "coloured by 类别" in file.read_text("utf-8")
    documents.write_text("\n".join(json.dumps({"id": row["id"], "text": row["text"]}) for row in rows))
    assert run("eval", "report", *how)[0] == 0
    assert "coloured by" not in file.read_text("utf-8")
