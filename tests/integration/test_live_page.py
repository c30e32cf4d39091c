"""The live page in a real browser over a real mill: what it shows, what it changes, and that nothing bars anybody."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import live_page
from gristmill import Chunking, Client, Document
from gristmill.settings import variable
from live_page import Opened, close, open_page
from live_pictures import IMAGES, PICTURES, SEARCHED
from services import QdrantServer, RedisServer
from services.process import changed
from services.redis import DATABASES
from services.serve import ServeProcess
from waiting import eventually

pytestmark = pytest.mark.server

KEY = "sk-live-page-0123456789"
PATIENCE = {variable("redis_timeout_s"): "60", variable("query_timeout_s"): "60"}
EVIL = "</td><script>window.obeyed = true</script><img src=x onerror='window.obeyed=true'><b>粗</b>"


class Patient(ServeProcess):
    """Whose page waits longer for servers of a busy machine than people do."""

    def command(self) -> list[str]:
        longer = "from gristmill_worker.server.live import live; live._REDIS_S = live._QDRANT_S = live._QUERY_S = 60"
        return changed(longer, super().command())


@dataclass(frozen=True)
class Mill:
    """A worker with a live page, and what was handed to it."""

    address: str
    client: Client
    job_id: str


@pytest.fixture(scope="module")
def mill(
    redis_server: RedisServer, qdrant_server: QdrantServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mill]:
    folder = tmp_path_factory.mktemp("live")
    keys = folder / "keys"
    keys.write_text(KEY)
    keys.chmod(0o600)
    redis_url = redis_server.url_of(DATABASES - 1)
    settings: dict[str, Any] = {
        "redis_url": redis_url,
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
        "model": "hash:16",
    }
    environment = {variable(name): str(value) for name, value in {**settings, "serve_api_keys": keys}.items()}
    arguments = ["worker", "--serve", "--no-supervise"]
    with Patient(folder / "worker", arguments, environment | PATIENCE) as worker, Client(**settings) as client:
        client.create_collection("t-live")
        texts = {"plain": "Refunds take three days. 退款三天到账。", EVIL: f"A refund {EVIL}"}
        job = client.enqueue("t-live", [Document(id=key, text=text) for key, text in texts.items()])
        long = [Document(id=f"long {EVIL}", text=f"{EVIL} word " * 1000)]
        assert job.wait(60).stored == 2
        for name in ("t-live-strict", "t-live-kept"):
            client.create_collection(name, chunking=Chunking(long_texts="refuse"))
            assert client.enqueue(name, long).wait(60).dead == 1
        yield Mill(worker.address, client, job.id)
    redis_server.flush(DATABASES - 1)
    qdrant_server.drop_collections("t-live")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api", reason="the extra dev brings playwright")
    if live_page.CHROMIUM is None:
        pytest.skip("no chromium on PATH: `make services` brings it")
    with live_page.started_browser() as started:
        yield started


def row(tab: Any, collection: str) -> Any:
    """Of the dead letters' table."""
    return tab.locator("#dead-table tbody tr", has_text=collection)


@pytest.fixture(scope="module")
def page(browser: Any, mill: Mill) -> Iterator[Opened]:
    """In English, with its key, once all that was handed over has come to its end there."""
    opened = open_page(browser, mill.address, locale="en-GB", viewport={"width": 1280, "height": 900})
    opened.unlock(KEY)
    for shown in ("#worker-table", "#queue-table"):
        opened.tab.locator(shown, has_text="hash:16").wait_for()
    opened.tab.locator("#job-table", has_text="2 of 2").wait_for()
    opened.tab.locator("#dead-table", has_text="t-live-kept").wait_for()
    yield opened
    close(opened.tab)


def test_the_page_shows_what_the_mill_does_and_asks_nobody_else(page: Opened, mill: Mill) -> None:
    assert mill.job_id in page.text("#job-table")
    eventually(lambda: "ready" in page.text("#worker-table"))
    eventually(lambda: "Redis: there" in page.text("#servers"))
    assert page.text("#queue-table tbody td:last-child") == "1 worker"
    assert "died of TextTooLong" in page.text("#trouble-list")
    assert "gristmill dead list -c t-live-strict -e TextTooLong" in page.text("#trouble-list")
    assert {url.partition("/live/")[0] for url in page.asked} == {mill.address}
    assert page.said == []


def test_the_servers_state_stays_in_sight_when_the_key_was_given(page: Opened) -> None:
    assert page.tab.evaluate("scrollY") == 0


def test_what_anybody_wrote_is_shown_as_text(page: Opened) -> None:
    page.search("t-live", "refund 三天")
    assert EVIL in page.text("#hits")
    assert {"refund", "Refund", "三天"} <= set(page.tab.locator("#hits mark").all_inner_texts())
    assert "Took" in page.text("#explained")
    assert page.tab.locator("main script, main img, #hits b").count() == 0
    assert page.tab.evaluate("window.obeyed") is None
    assert page.said == []


def test_a_dead_letter_is_looked_at_and_replayed_by_keyboard_after_a_question(page: Opened, mill: Mill) -> None:
    tab = page.tab
    row(tab, "t-live-strict").locator("button", has_text="Look").focus()
    tab.keyboard.press("Enter")
    tab.locator("#letter-list summary").wait_for()
    tab.locator("#letter-list summary").focus()
    tab.keyboard.press("Enter")
    assert f"long {EVIL}" in page.text("#letter-list")
    tab.locator("#letter-list button").focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "confirm-no"
    tab.keyboard.press("Escape")
    assert not tab.locator("#confirm").is_visible()
    assert mill.client.dead.summary().letters == 2
    before = {each.job_id for each in mill.client.jobs.list()}
    tab.locator("#letter-list button").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    eventually(lambda: "Handed over again" in page.text("#dead .said"))
    (again,) = {each.job_id for each in mill.client.jobs.list()} - before
    assert mill.client.jobs.get(again).wait(60).dead == 1
    assert page.said == []


def test_an_update_neither_takes_the_focus_nor_makes_its_button_anew(page: Opened) -> None:
    tab = page.tab
    row(tab, "t-live-kept").locator("button", has_text="Look").focus()
    tab.evaluate("void (document.activeElement.dataset.mine = 'yes')")
    seen = page.text("#updated")
    eventually(lambda: page.text("#updated") != seen)
    assert tab.evaluate("document.activeElement.dataset.mine") == "yes"


def test_an_answer_that_is_late_does_not_take_the_focus_from_who_has_gone_on(page: Opened) -> None:
    tab = page.tab
    asked = re.compile(r"/live/api/dead\?.*t-live-kept")
    held: list[Any] = []
    tab.route(asked, lambda route: held.append(route))
    row(tab, "t-live-kept").locator("button", has_text="Look").focus()
    tab.keyboard.press("Enter")
    eventually(lambda: tab.evaluate("true") and held)  # what the browser says is heard only while it is asked something
    row(tab, "t-live-strict").locator("button", has_text="Look").focus()
    tab.evaluate("void (document.activeElement.dataset.mine = 'late')")
    held[0].continue_()
    tab.locator("#letters-title", has_text="t-live-kept").wait_for()
    assert tab.evaluate("document.activeElement.dataset.mine") == "late"
    tab.unroute(asked)


def test_who_comes_by_keyboard_gets_everywhere_and_can_skip_to_the_content(page: Opened) -> None:
    tab = page.tab
    tab.locator(".skip").focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "content"
    reached: list[str] = []
    while "search-explain" not in reached and len(reached) < 200:
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"Copy", "Look", "search-query", "search-collection", "search-explain"} <= set(reached)
    outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_wrong_key_is_said_to_be_wrong(browser: Any, mill: Mill) -> None:
    opened = open_page(browser, mill.address, locale="zh-CN")
    opened.unlock("sk-another")
    eventually(lambda: opened.text("#key-said") == "这不是此服务器的密钥。")
    assert not opened.tab.locator("#jobs").is_visible()
    close(opened.tab)


def test_the_language_is_the_browsers_until_somebody_chooses_another(browser: Any, mill: Mill, page: Opened) -> None:
    opened = open_page(browser, mill.address, locale="zh-CN")
    opened.unlock(KEY)
    eventually(lambda: "就绪" in opened.text("#worker-table"))
    eventually(lambda: "本身有问题" in opened.text("#trouble-list"))
    opened.tab.select_option("#language", "en")
    eventually(lambda: "ready" in opened.text("#worker-table"))
    assert opened.tab.evaluate("document.documentElement.lang") == "en"
    assert "are bad themselves" in opened.text("#trouble-list")
    assert opened.said == []
    close(opened.tab)


def overloaded(seen: dict[str, Any]) -> dict[str, Any]:
    """What the server said, with everything too long, too much, or nothing."""
    long, huge = "x" * 300 + EVIL, 2**53 - 1
    job = {**seen["jobs"][0], "collection": long, "tenant": long, "state": "running", "accepted": huge}
    jobs = [{**job, "job_id": f"{number}{long}", "stored": huge, "rejected": huge} for number in range(5)]
    nothing = {**job, "job_id": "nothing", "accepted": 0, "finished": 0, "rate": None, "collection": ""}
    worker = {**seen["workers"][0], "name": long, "notices": [long], "state": "waiting", "up_s": huge}
    worker["engines"] = [{**seen["workers"][0]["engines"][0], "model": long, "batch_s": huge, "texts": huge}]
    queue = {**seen["queues"][0], "model": long, "documents": huge, "parcels": huge, "oldest_waiting_s": huge}
    group = {"collection": long, "error": long, "letters": huge, "age_s": 0.0, "reason": long}
    shares = {"busy": 0.5, "tokens": 0.0, "store": 0.25, "no_work": 0.25}
    sample = {"at": seen["at"], "tokens_per_s": huge, "waiting": huge, "dead": huge, "shares": shares}
    says = dict.fromkeys(("en", "zh"), long)
    return {
        **seen,
        "jobs": [nothing, *jobs],
        "workers": [{**worker, "name": f"{n}{long}"} for n in range(3)],
        "all_workers": 10_000,
        "queues": [queue, {**queue, "model_digest": "b", "workers": 0, "documents": 0, "parcels": 0}],
        "dead": {"letters": huge, "bytes": huge, "max_bytes": 1, "share": huge, "groups": [group]},
        "samples": [sample, {**sample, "at": sample["at"] + 1, "tokens_per_s": 0, "waiting": None, "shares": {}}],
        "troubles": [{"kind": "x", "severity": "critical", "what": says, "why": says, "command": long}] * 3,
    }


@pytest.mark.parametrize(("locale", "width", "scheme"), [("en-GB", 1280, "light"), ("zh-CN", 390, "dark")])
def test_whatever_is_there_fits_its_window_and_bars_nobody(
    browser: Any, mill: Mill, page: Opened, locale: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra dev brings axe")
    opened = open_page(
        browser, mill.address, locale=locale, viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    tab = opened.tab

    def answer(route: Any) -> None:
        told = route.fetch()
        route.fulfill(response=told, body=json.dumps(overloaded(json.loads(told.body()))))

    tab.route("**/api/overview?since=*", answer)
    opened.unlock(KEY)
    tab.locator("#job-table tbody tr").nth(1).wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["impact"]) for each in found if each["impact"] in ("serious", "critical")] == []
    assert tab.evaluate("window.obeyed") is None
    close(tab)


def test_a_running_job_is_cancelled_after_a_question_and_paused_without_one(
    browser: Any, mill: Mill, page: Opened
) -> None:
    opened = open_page(browser, mill.address, locale="en-GB")
    tab, asked = opened.tab, []

    def running(route: Any) -> None:
        told = route.fetch()
        seen = json.loads(told.body())
        seen |= {"job_actions": ["cancel", "pause", "resume"], "jobs": [{**seen["jobs"][0], "state": "running"}]}
        route.fulfill(response=told, body=json.dumps(seen))

    def take(route: Any) -> None:
        asked.append((route.request.url.rpartition("/jobs/")[2], route.request.headers["x-gristmill-live"]))
        route.fulfill(json={"job": {}})

    tab.route("**/api/overview?since=*", running)
    tab.route("**/api/jobs/*/*", take)
    opened.unlock(KEY)
    tab.locator("#job-table button", has_text="Pause").click()
    eventually(lambda: "is paused" in opened.text("#jobs .said"))
    tab.locator("#job-table button", has_text="Cancel").click()
    tab.locator("#confirm-no").click()
    tab.locator("#job-table button", has_text="Cancel").click()
    assert "cannot be undone" in opened.text("#confirm-text")
    tab.locator("#confirm-yes").click()
    eventually(lambda: "is cancelled" in opened.text("#jobs .said"))
    assert [(each.partition("/")[2], header) for each, header in asked] == [("pause", "1"), ("cancel", "1")]
    assert opened.said == []
    close(tab)


def test_a_job_with_work_waiting_is_cancelled_from_the_page_and_none_of_it_is_stored(
    browser: Any, mill: Mill, page: Opened
) -> None:
    def stream() -> Iterator[Document]:
        (newest,) = mill.client.jobs.list(1)
        mill.client.jobs.get(newest.job_id).pause()
        yield from (Document(id=f"waits {number}", text=f"Number {number} waits.") for number in range(300))

    job = mill.client.enqueue("t-live", stream())
    before = mill.client.count("t-live")
    opened = open_page(browser, mill.address, locale="en-GB")
    tab = opened.tab
    opened.unlock(KEY)
    mine = tab.locator("#job-table tbody tr", has_text=job.id)
    mine.locator("button", has_text="Resume").wait_for()
    mine.locator("button", has_text="Cancel").click()
    tab.locator("#confirm-yes").click()
    eventually(lambda: "is cancelled" in opened.text("#jobs .said"))
    report = job.wait(60)
    assert (report.accepted, report.cancelled, report.stored) == (300, 300, 0)
    eventually(lambda: mine.locator("button").count() == 0)
    assert mill.client.count("t-live") == before
    assert opened.said == []
    close(tab)


def test_a_picture_for_the_documentation_is_taken_of_a_page_with_something_on_it(
    browser: Any, mill: Mill, tmp_path: Path
) -> None:
    picture = replace(SEARCHED, searched=("t-live", "refund 三天"))
    taken = picture.take(browser, mill.address, KEY, tmp_path).read_bytes()
    width, height = struct.unpack(">II", taken[16:24])
    assert picture.width / 2 < width <= picture.width
    assert len(taken) > width * height / 100  # one colour alone takes a tenth of that


def test_the_documentation_shows_each_picture_and_none_is_heavy() -> None:
    shown = (IMAGES.parent / "live.md").read_text("utf-8")
    for picture in PICTURES:
        assert f"](images/{picture.name})" in shown
        assert 10_000 < (IMAGES / picture.name).stat().st_size < 200_000


def test_a_page_whose_server_is_gone_says_so(browser: Any, mill: Mill) -> None:
    opened = open_page(browser, mill.address, locale="en-GB")
    opened.unlock(KEY)
    opened.tab.locator("#job-table tbody tr").first.wait_for()
    opened.tab.route("**/api/overview*", lambda route: route.abort())
    eventually(lambda: "does not answer" in opened.text("#trouble-list"))
    assert "not updated since" in opened.text("#updated")
    close(opened.tab)
