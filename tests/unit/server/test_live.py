"""The live page without a browser: who may look, who may change something, and what is said while all servers are away."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from gristmill.maintenance.troubles import Memory, Observed, judge
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.server.live.highlights import parts
from gristmill_worker.server.live.page import PATHS, language
from gristmill_worker.server.live.telling import LANGUAGES, NEEDED, servers, worker
from gristmill_worker.server.live.watching import Seen
from gristmill_worker.waiting.notices import Waits
from serving import Serving, served
from waiting import eventually

KEY = "sk-live-0123456789"
NOWHERE: dict[str, Any] = {
    "redis_url": "redis://127.0.0.1:1/0",
    "qdrant_url": "http://127.0.0.1:1",
    "qdrant_prefer_grpc": False,
}
FILES = files("gristmill_worker.server.live") / "files"
PAGE = {"x-gristmill-live": "1"}
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file: Path = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(KEY)
    file.chmod(0o600)
    return str(file)


@pytest.fixture(scope="module")
def open_page() -> Iterator[Serving]:
    """Without keys; Redis and Qdrant are away."""
    with served([HashEncoder(8)], serve_live="on", **NOWHERE) as serving:
        yield serving


@pytest.fixture(scope="module")
def kept_page(key_file: str) -> Iterator[Serving]:
    """With a key."""
    with served([HashEncoder(8)], serve_live="on", serve_api_keys=key_file, **NOWHERE) as serving:
        yield serving


def overview(serving: Serving, **headers: str) -> httpx.Response:
    return serving.http.get("/live/api/overview", headers=headers)


def test_while_both_servers_are_away_the_page_says_so_and_what_to_type(open_page: Serving) -> None:
    def away() -> list[str]:
        return [each["kind"] for each in overview(open_page).json()["troubles"]]

    eventually(lambda: away() == ["redis_away", "qdrant_away"])
    told = overview(open_page).json()
    assert (told["redis"]["state"], told["qdrant"]["state"]) == ("away", "away")
    assert told["troubles"][0]["command"] == "redis-cli -u redis://127.0.0.1:1/0 ping"
    assert set(told["troubles"][0]["what"]) == {"en", "zh"}
    # What was never seen is not made up.
    assert "jobs" not in told
    eventually(lambda: {each["waiting"] for each in overview(open_page).json()["samples"]} == {None})


@pytest.mark.parametrize(
    ("status", "state", "waits"),
    [
        ({"state": "ready", "waits": []}, "ready", []),
        ({"state": "ready", "waits": ["queries", "webhooks"]}, "ready", []),
        ({"state": "ready", "waits": ["store", "broker"]}, "waiting", ["broker", "store"]),
        ({"state": "ready", "engines": [{"model": "m", "batch_s": 95.0}]}, "waiting", ["device"]),
        ({"state": "draining", "draining": True, "waits": ["store"]}, "draining", ["store"]),
        ({"state": "loading", "waits": ["store"]}, "loading", ["store"]),
        ({"state": "ready", "waits": "store"}, "ready", []),
    ],
)
def test_a_worker_that_waits_for_what_it_needs_is_not_ready(
    status: dict[str, Any], state: str, waits: list[str]
) -> None:
    shown = worker("gpu1:77:abc", status, 0.0)
    assert (shown["state"], shown["waits"]) == (state, waits)


def test_whatever_a_worker_may_wait_for_has_its_words() -> None:
    strings = json.loads((FILES / "strings.json").read_text("utf-8"))
    for language_ in LANGUAGES:
        assert {f"wait.{each}" for each in NEEDED} <= strings[language_].keys()
    assert set(NEEDED) <= set(Waits)


@pytest.mark.parametrize(
    ("seen", "redis", "qdrant"),
    [
        ({}, "there", "there"),
        ({"memory": Memory(used=90, limit=100)}, "ailing", "there"),
        ({"memory": Memory(10, 100, "allkeys-lru")}, "ailing", "there"),
        ({"qdrant_s": 2.5}, "there", "ailing"),
    ],
)
def test_a_server_that_answers_and_is_in_trouble_looks_neither_well_nor_away(
    seen: dict[str, Any], redis: str, qdrant: str
) -> None:
    look = Observed(at=0.0, workers={"w": {}}, **seen)
    ails = {each.kind for each in judge(look)}
    told = servers(look, ails, answered(), answered())
    assert (told["redis"]["state"], told["qdrant"]["state"]) == (redis, qdrant)


def answered() -> Seen[Any]:
    seen: Seen[Any] = Seen(lambda: None)
    seen.look()
    return seen


def test_a_search_while_qdrant_is_away_is_refused_by_a_sentence(open_page: Serving) -> None:
    answer = open_page.http.post("/live/api/search", json={"collection": "faq", "query": "x"}, headers=PAGE)
    assert answer.status_code == 503
    assert "Qdrant cannot be used" in answer.json()["error"]["message"]


def test_every_file_of_the_page_is_open_and_obeys_nothing_inline(kept_page: Serving) -> None:
    for path in sorted(PATHS):
        answer = kept_page.http.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert kept_page.http.get("/live").headers["location"] == "live/"
    html = kept_page.http.get("/live/").text
    assert re.findall(r"<script(?! type=\"module\" src=)|\son\w+=|\sstyle=|https?://", html) == []


def test_with_keys_the_page_shows_nothing_and_changes_nothing_without_one(kept_page: Serving) -> None:
    assert 'data-keys="yes"' in kept_page.http.get("/live/").text
    assert overview(kept_page).status_code == 401
    assert kept_page.http.post("/live/api/dead/replay", json={"letter": "x"}, headers=PAGE).status_code == 401
    assert overview(kept_page, **BEARER).json()["read_only"] == ""


@pytest.mark.parametrize(
    ("headers", "why"),
    [({}, "sent by the page itself"), ({**PAGE, "sec-fetch-site": "cross-site"}, "from 'cross-site'")],
)
def test_another_sites_page_can_post_nothing(kept_page: Serving, headers: dict[str, str], why: str) -> None:
    for path, body in {"dead/replay": {"letter": "x"}, "search": {"collection": "a", "query": "b"}}.items():
        answer = kept_page.http.post(f"/live/api/{path}", json=body, headers=BEARER | headers)
        assert answer.status_code == 403
        assert why in answer.json()["error"]["message"]
    form = kept_page.http.post("/live/api/dead/replay", data={"letter": "x"}, headers=BEARER | PAGE)
    assert form.status_code == 415


def test_without_keys_nothing_can_be_changed(open_page: Serving) -> None:
    assert overview(open_page).json()["read_only"] == "keys"
    for path in ("dead/replay", "jobs/abc/cancel"):
        answer = open_page.http.post(f"/live/api/{path}", json={"letter": "x"}, headers=PAGE)
        assert answer.status_code == 403
        assert "--api-keys" in answer.json()["error"]["message"]


def test_the_switch_makes_it_read_only_also_for_who_has_a_key(key_file: str) -> None:
    with served([HashEncoder(8)], serve_live="read-only", serve_api_keys=key_file, **NOWHERE) as serving:
        assert overview(serving, **BEARER).json()["read_only"] == "switch"
        answer = serving.http.post("/live/api/dead/replay", json={"letter": "x"}, headers=BEARER | PAGE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "10.0.0.9"},
        {"forwarded": "for=10.0.0.9"},
        {"host": "attacker.example"},
        {"host": "127.0.0.1.attacker.example:8000"},
        {"host": "10.0.0.1"},
    ],
)
def test_without_keys_it_is_for_this_machine_alone(open_page: Serving, headers: dict[str, str]) -> None:
    answer = overview(open_page, **headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "live_is_local")


@pytest.mark.parametrize("host", ["localhost:8000", "[::1]:8000", "127.0.0.7"])
def test_this_machine_goes_by_its_names(open_page: Serving, host: str) -> None:
    assert overview(open_page, host=host).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("search", {"collection": "faq"}, "query"),
        ("search", {"collection": "faq", "query": "x", "limit": 1000}, "limit"),
        ("search", {"collection": "faq", "query": "x", "mode": "magic"}, "mode"),
        ("search", {"collection": "faq", "query": "x", "strange": 1}, "strange"),
        ("dead/replay", {}, "letter"),
        ("dead/replay", {"letter": "a", "collection": "b", "error": "c"}, "letter"),
        ("dead/replay", {"collection": "b"}, "letter"),
        ("dead/replay", {"letter": "a", "collection": "b"}, "letter"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(kept_page: Serving, path: str, body: dict[str, Any], field: str) -> None:
    answer = kept_page.http.post(f"/live/api/{path}", json=body, headers=BEARER | PAGE)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_a_server_that_has_no_mill_has_no_live_page() -> None:
    with served([HashEncoder(8)]) as serving:
        assert serving.server.live == ""
        assert serving.http.get("/live/").status_code == 404
        assert serving.http.get("/live/api/overview").status_code == 404
        assert "live page" not in serving.http.get("/docs").text


def test_where_redis_is_set_a_server_has_a_live_page(open_page: Serving) -> None:
    with served([HashEncoder(8)], **NOWHERE) as serving:
        assert serving.http.get("/live/").status_code == 200
        assert 'href="live/"' in serving.http.get("/docs").text
    with served([HashEncoder(8)], serve_live="off", **NOWHERE) as serving:
        assert serving.http.get("/live/").status_code == 404


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr,de;q=0.9", "en"),
        ("fr,zh-Hant;q=0.5,en;q=0.1", "zh"),
        ("zh;q=0,en;q=0.1", "en"),
        (";;;q=x,,", "en"),
    ],
)
def test_the_page_speaks_the_language_that_the_browser_asks_for(accepted: str, chosen: str) -> None:
    assert language(accepted) == chosen


class _Keys(HTMLParser):
    """Keys of strings that the page's HTML asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {str(value) for name, value in attrs if name in ("data-t", "data-t-label")}


def test_every_string_is_there_in_both_languages_with_the_same_places() -> None:
    table = json.loads((FILES / "strings.json").read_text("utf-8"))
    assert list(table["en"]) == list(table["zh"])
    for key, english in table["en"].items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", table["zh"][key])), key


def test_every_string_that_the_page_asks_for_is_in_the_table() -> None:
    table = json.loads((FILES / "strings.json").read_text("utf-8"))["en"]
    parser = _Keys()
    parser.feed((FILES / "index.html").read_text("utf-8"))
    asked = set(re.findall(r"""\bt\("([\w.]+)\"""", (FILES / "app.js").read_text("utf-8")))
    assert (parser.found | asked) - set(table) == set()


def test_nothing_in_the_script_makes_markup_of_text() -> None:
    for name in ("app.js", "rows.js", "charts.js"):
        code = (FILES / name).read_text("utf-8")
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", code) == []


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("refund days", "Refunds take three Days.", ["Refund", "Days"]),
        ("优惠券没减钱", "用了优惠券，但是没有减钱", ["优惠券", "减钱"]),
        ("is it in", "It is within its definition", ["It", "is"]),
        ("refund 退款", "退款refund: a prerefund", ["退款refund"]),
        ("E-42 失败", "错误 42：连接失败了", ["42", "失败"]),
        ("a b", "a b c", []),
        ("<b>x</b> bold", "<b>BOLD</b>", ["BOLD"]),
        (".* [", "any .* text [", []),
        ("", "text", []),
        ("text", "", []),
    ],
)
def test_the_words_of_the_query_are_marked_as_text(query: str, text: str, marked: list[str]) -> None:
    found = parts(query, text)
    assert [piece for piece, match in found if match] == marked
    assert "".join(piece for piece, _ in found) == text


def test_of_a_long_text_the_part_around_the_first_match_is_shown() -> None:
    found = parts("needle", "hay " * 5000 + "needle" + " hay" * 5000, most_chars=100)
    shown = "".join(piece for piece, _ in found)
    assert (shown[0], shown[-1], len(shown), "needle" in shown) == ("…", "…", 102, True)
