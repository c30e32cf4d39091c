"""The command line as users and scripts see it: messages, exit codes, one JSON object on stdout."""

import json
import logging
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gristmill import ClientSettings
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.search.query_channel import query_queue
from gristmill.settings import load_settings
from gristmill_schemas import EncoderInfo, Pooling
from services import QdrantServer, free_port
from unit.ledger.parcels import ROOMY, parcel_of

Run = Callable[..., tuple[int, str, str]]


def as_json(out: str) -> dict[str, Any]:
    assert out.count("\n") == 1, f"expected one line, got {out!r}"
    value: dict[str, Any] = json.loads(out)
    return value


def test_ingest_then_search_then_ingest_again(run: Run, embedded: Path) -> None:
    file = embedded / "docs.jsonl"
    lines = [{"id": f"d{n}", "text": f"paragraph number {n}", "metadata": {"n": n}} for n in range(100)]
    file.write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = run("ingest", str(file), "-c", "docs", "--json")
    assert (code, as_json(out)["stored"]) == (0, 100)
    code, out, _ = run("search", "docs", "paragraph number 7", "-w", "n=7", "--json")
    assert code == 0
    assert [hit["id"] for hit in as_json(out)["hits"]] == ["d7"]
    code, out, _ = run("ingest", str(file), "-c", "docs", "--json")
    assert (code, as_json(out)["skipped"]) == (0, 100)


def test_one_broken_line_is_named_and_the_rest_is_ingested(run: Run, embedded: Path) -> None:
    file = embedded / "docs.jsonl"
    file.write_text('{"id": "a", "text": "fine"}\n{"id": "b", "text": \n{"id": "c", "text": "fine too"}\n')
    code, out, _ = run("ingest", str(file), "-c", "docs", "--json")
    report = as_json(out)
    assert (code, report["stored"], report["rejected"]) == (1, 2, 1)
    assert report["rejections"][0]["position"] == 2
    assert report["rejections"][0]["source"].endswith("docs.jsonl")


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ({"id": "x", "text": "  "}, "text", "empty or blank"),
        ({"id": "x", "text": "a\0b"}, "text", "NUL"),
        ({"id": "x", "text": "a" * (1024 * 1024 + 1)}, "text", "at most 1048576 bytes"),
        ({"id": "x", "text": "ok", "metadata": {"_gristmill": 1}}, "metadata", "reserved"),
        ({"id": "x", "text": "ok", "metadata": [1]}, "metadata", "JSON object"),
        ({"id": "", "text": "ok"}, "id", "empty"),
        ({"id": "x", "text": "ok", "version": 2**60}, "version", "less than"),
        ({"id": "good", "text": "again"}, "id", "once per call"),
    ],
)
def test_bad_documents_are_named_and_cost_their_neighbours_nothing(
    run: Run, embedded: Path, line: dict[str, Any], field: str, expected: str
) -> None:
    file = embedded / "docs.jsonl"
    file.write_text(json.dumps({"id": "good", "text": "good text"}) + "\n" + json.dumps(line) + "\n")
    code, out, _ = run("ingest", str(file), "-c", "docs", "--json")
    report = as_json(out)
    assert (code, report["stored"], report["rejected"]) == (1, 1, 1)
    reason = report["rejections"][0]["reason"]
    assert field in reason
    assert expected in reason


def test_documents_that_die_alike_are_told_by_the_report_and_not_once_more_each(
    run: Run, embedded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("collections", "create", "c", "--long-texts", "refuse")[0] == 0
    file = embedded / "long.jsonl"
    file.write_text("\n".join(json.dumps({"id": f"doc-{name}", "text": "word " * 2000}) for name in "abcde"))
    code, out, _ = run("ingest", str(file), "-c", "c")
    assert code == 1
    assert "5 dead" in out
    # What a command prints of the log besides: warnings that are not the job's own.
    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.getMessage() for each in loud if not each.name.startswith("gristmill.ingest.")] == []


def test_an_unknown_collection_says_what_to_do(run: Run, embedded: Path) -> None:
    code, out, err = run("search", "nowhere", "anything")
    assert (code, out) == (1, "")
    assert "nowhere" in err
    assert "collections list" in err


def test_a_missing_model_folder_says_which(run: Run, embedded: Path) -> None:
    code, out, err = run("demo", "--model", str(embedded / "no-such-model"))
    assert (code, out) == (2, "")
    assert "no-such-model" in err


def test_errors_are_json_too(run: Run, embedded: Path) -> None:
    code, out, _ = run("search", "nowhere", "anything", "--json")
    assert code == 1
    assert as_json(out)["error"] == "CollectionNotFound"


def test_a_wrong_call_exits_with_2(run: Run, embedded: Path) -> None:
    assert run("search")[0] == 2
    code, out, _ = run("search", "docs", "x", "-w", "novalue", "--json")
    assert code == 2
    assert as_json(out)["error"] == "InvalidInput"


def test_a_wrong_setting_is_named_with_what_came(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_QUEUE_MAX_DOCUMENTS", "many")
    code, _, err = run("jobs", "list")
    assert code == 2
    assert "GRISTMILL_QUEUE_MAX_DOCUMENTS" in err
    assert "many" in err


def test_redis_away_is_said_with_the_way_out(run: Run, hasty_redis: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", f"redis://:secret@127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("GRISTMILL_START_WAIT_S", "0.1")
    code, _, err = run("jobs", "list")
    assert code == 1
    assert "GRISTMILL_REDIS_URL" in err
    assert "secret" not in err


def test_qdrant_away_is_said_with_the_way_out(run: Run, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("GRISTMILL_QDRANT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(free_port()))
    monkeypatch.setenv("GRISTMILL_START_WAIT_S", "0.1")
    code, _, err = run("collections", "list")
    assert code == 1
    assert "GRISTMILL_QDRANT_URL" in err


def test_doctor_shows_sources_and_hides_secrets(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, qdrant_server: QdrantServer
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("GRISTMILL_QDRANT_URL", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(qdrant_server.grpc_port))
    monkeypatch.setenv("GRISTMILL_REMOTE_API_KEY", "very-secret")
    (tmp_path / ".env").write_text("GRISTMILL_THREADS=7\n")
    code, out, _ = run("doctor", "--json")
    findings = as_json(out)
    assert code == 1, "no worker runs, and that is a finding"
    assert "very-secret" not in out
    rows = {row["name"]: row for row in findings["settings"]}
    assert rows["GRISTMILL_REDIS_URL"]["source"] == "environment"
    assert (rows["GRISTMILL_THREADS"]["source"], rows["GRISTMILL_THREADS"]["value"]) == (".env", "7")
    assert rows["GRISTMILL_LEASE_S"]["source"] == "default"
    assert rows["GRISTMILL_REMOTE_API_KEY"]["value"] == "***"
    states = {check["name"]: check["ok"] for check in findings["checks"]}
    assert states["redis"]
    assert states["qdrant"]
    assert not states["workers"]


def test_doctor_counts_the_queries_that_wait_and_what_became_of_those_before(
    run: Run, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    settings = load_settings(ClientSettings)
    with closing(connect(settings)) as client:
        ledger = RedisLedger(settings, client)
        fates = {"answered": 1200, "expired": 3, "refused": 1, "given_back": 2}
        serving = {"model": "m", "model_digest": "ab" * 32, "device": "cpu", "queries": fates}
        for worker in ("one", "two"):
            ledger.heartbeat(worker, {"engines": [serving]}, 60)
        client.lpush(queue := query_queue(settings.key_prefix, "ab" * 32), "a query", "another")
        _, out, _ = run("doctor")
        client.delete(queue)
    (line,) = [line for line in out.splitlines() if " queries " in line]
    assert "m: 2 waiting, 2,400 answered, 6 expired, 2 refused, 4 given back" in line
    assert "GRISTMILL_QUERY_TIMEOUT_S" in out


def test_work_that_nobody_serves_is_named_with_what_to_start(
    run: Run, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("GRISTMILL_KEY_PREFIX", prefix := f"t-{uuid.uuid4().hex[:8]}")
    settings = load_settings(ClientSettings)
    with closing(connect(settings)) as client:
        ledger = RedisLedger(settings, client)
        ledger.announce(
            EncoderInfo(
                model="the/model", digest="d", dimensions=8, min_dimensions=1, max_tokens=9, pooling=Pooling.MEAN
            )
        )
        assert as_json(run("queue", "--json")[1]) == {"models": [], "limited": []}
        ticket = ledger.open_job("faq")
        ledger.accept(parcel_of(ticket, model="d", text="x" * 400, collection="faq"), 0, ROOMY)
        (queue,) = as_json(run("queue", "--json")[1])["models"]
        assert (queue["model"], queue["documents"], queue["workers"], queue["seconds"]) == ("the/model", 2, 0, None)
        what_to_do = "nobody serves the/model: start `gristmill worker --model the/model`"
        assert what_to_do in run("queue")[1]
        (line,) = [line for line in run("doctor")[1].splitlines() if " queue " in line]
        assert what_to_do in line
        assert run("queue", "--watch", "--json")[0] == 2
        told = as_json(run("scale", "--model", "the/model", "--json")[1])
        assert (told["seconds"], told["list"]) == (1, f"{{{prefix}}}:seconds:d")
        assert "1 s of work for the/model" in run("scale")[1]
        code, _, err = run("scale", "--model", "mistyped")
        assert (code, "mistyped" in err) == (1, True)


def test_collections_are_created_listed_shown_and_deleted(run: Run, embedded: Path) -> None:
    code, out, _ = run("collections", "create", "faq", "--dimensions", "32", "--instruction", "faq=Find it", "--json")
    assert (code, as_json(out)["space"]["dimensions"]) == (0, 32)
    assert [each["name"] for each in as_json(run("collections", "list", "--json")[1])["collections"]] == ["faq"]
    code, _, err = run("collections", "create", "faq", "--json")
    assert code == 2, err
    assert as_json(run("collections", "delete", "faq", "--yes", "--json")[1]) == {"deleted": "faq", "points": 0}
    assert run("collections", "show", "faq")[0] == 1


def test_chunks_are_asked_for_by_where_they_end_and_what_stands_above_them(run: Run, embedded: Path) -> None:
    asked = ("--chunk-by", "markdown", "--chunk-context", "title", "--title-key", "标题")
    code, out, _ = run("collections", "create", "guides", *asked, "--chunk-size", "99", "--json")
    made = as_json(out)["chunking"]
    assert (code, made["by"], made["context"], made["title_key"]) == (0, "markdown", "title", "标题")
    code, out, _ = run("collections", "create", "guides", "--chunk-context", "headings", "--json")
    assert code == 2
    assert "by markdown, under their title from 标题" in as_json(out)["message"]
    out = run("collections", "create", "guides", "--chunk-context", "headings", "--update", "--json")[1]
    changed = as_json(out)["chunking"]
    assert (changed["size"], changed["by"], changed["context"]) == (99, "markdown", "headings")


def test_a_collection_that_markdown_files_begin_is_cut_by_markdown(run: Run, embedded: Path) -> None:
    (embedded / "guide.md").write_text("# Mill\n\nIt grinds.\n", encoding="utf-8")
    (embedded / "notes.txt").write_text("It grinds.\n", encoding="utf-8")
    _, _, err = run("ingest", str(embedded / "guide.md"), "-c", "guides", "--json")
    assert "whose long texts are cut at headings and blocks" in " ".join(err.split())
    run("ingest", str(embedded), "-c", "both", "--json")
    by = {name: as_json(run("collections", "show", name, "--json")[1])["chunking"]["by"] for name in ("guides", "both")}
    assert by == {"guides": "markdown", "both": "text"}


def test_instructions_are_registered_listed_shown_and_retired(run: Run, embedded: Path) -> None:
    run("collections", "create", "faq", "--json")
    made = as_json(run("instructions", "register", "faq", "complaint", "Find the answer", "--json")[1])
    assert (made["collection"], made["label"], made["text"]) == ("faq", "complaint@1", "Find the answer")
    code, out, _ = run("instructions", "register", "faq", "complaint", "Find the entry")
    assert (code, "complaint@2 is registered" in out) == (0, True)
    listed = as_json(run("instructions", "list", "faq", "--json")[1])["instructions"]
    assert [each["label"] for each in listed] == ["complaint@1", "complaint@2"]
    shown = as_json(run("instructions", "show", "faq", "complaint", "--json")[1])
    assert (shown["label"], shown["template"]) == ("complaint@2", "{instruction}\n{text}")
    retired = as_json(run("instructions", "retire", "faq", "complaint@2", "--json")[1])["retired"]
    assert [each["label"] for each in retired] == ["complaint@2"]
    code, out, _ = run("collections", "show", "faq")
    assert "instruction complaint@2, retired" in out
    code, out, _ = run("instructions", "show", "faq", "complaint@3", "--json")
    assert (code, as_json(out)["error"]) == (2, "InvalidInput")
    answer = as_json(run("search", "faq", "question", "-i", "complaint", "--json")[1])
    assert answer["notes"] == [
        "collection 'faq': hash:64 was not trained to follow instructions: one is put before the text all the same, and may "
        "make hits worse; leave it out, or measure that it helps"
    ]


def test_presets_are_listed_without_any_server(run: Run) -> None:
    presets = as_json(run("instructions", "presets", "--json")[1])["presets"]
    assert {each["language"] for each in presets} == {"en", "zh"}
    assert "preset:faq:zh" in run("instructions", "presets")[1]


def test_the_schema_is_printed_as_json(run: Run) -> None:
    code, out, _ = run("schema")
    assert code == 0
    assert "Document" in json.loads(out)["$defs"]
