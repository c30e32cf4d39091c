"""`gristmill audit`, `receipt` and `dead refused`, as people and scripts see them."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from qdrant_client import models

from gristmill import Client, ClientSettings, RefusedMessage
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.ledger.reading import MAX_REFUSED, RedisEvidence
from gristmill.store.connection import open_local_store
from gristmill_schemas import point_id

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def corpus(run: Run, embedded: Path) -> Path:
    """A file of 100 documents, ingested into the collection `docs`."""
    file = embedded / "docs.jsonl"
    lines = [{"id": f"d{n}", "text": f"paragraph number {n}"} for n in range(100)]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert run("ingest", str(file), "-c", "docs", "--json")[0] == 0
    return file


def lose(embedded: Path, *ids: str) -> None:
    with contextlib.closing(open_local_store(str(embedded / "store"))) as store:
        chosen = models.PointIdsList(points=[point_id(each, None) for each in ids])
        store.delete("docs", points_selector=chosen, wait=True)


def test_audit_exits_with_1_until_its_gaps_are_repaired(run: Run, embedded: Path, corpus: Path) -> None:
    assert run("audit", "docs", str(corpus), "--json")[0] == 0
    lose(embedded, "d42")
    code, out, _ = run("audit", "docs", str(corpus), "--json")
    found = json.loads(out)
    assert (code, found["missing"], found["left"], found["findings"][0]["id"]) == (1, 1, 1, "d42")
    code, out, _ = run("audit", "docs", str(corpus), "--repair", "--json")
    found = json.loads(out)
    assert (code, found["repaired"], found["left"]) == (0, 1, 0)
    assert run("audit", "docs", str(corpus), "--json")[0] == 0


def test_audit_tells_people_what_is_wrong_and_what_to_do(run: Run, embedded: Path, corpus: Path) -> None:
    lose(embedded, "d42")
    code, out, err = run("audit", "docs", str(corpus))
    assert code == 1
    assert "1 gap left" in out
    assert "d42" in out
    assert "--repair" in err
    code, out, _ = run("audit", "docs", str(corpus), "--repair")
    assert code == 0
    assert "no gaps" in out


def test_audit_of_a_missing_file_says_so(run: Run, embedded: Path, corpus: Path) -> None:
    code, _, err = run("audit", "docs", str(embedded / "nowhere.jsonl"))
    assert code == 2
    assert "nowhere.jsonl" in err


def test_a_receipt_is_printed_and_an_unknown_document_exits_with_1(run: Run, embedded: Path, corpus: Path) -> None:
    code, out, _ = run("receipt", "docs", "d7", "--json")
    found = json.loads(out)
    assert (code, found["state"], found["chunks"], found["attempts"]) == (0, "stored", 1, 1)
    assert found["point_ids"] == [point_id("d7", None)]
    code, out, _ = run("receipt", "docs", "nobody")
    assert code == 1
    assert "unknown" in out


def test_refused_messages_are_listed_capped_and_dropped(
    run: Run, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    settings = ClientSettings(redis_url=redis_url)
    with contextlib.closing(connect(settings)) as client:
        evidence = RedisEvidence(RedisLedger(settings, client))
        for number in range(MAX_REFUSED + 5):
            evidence.refuse(RefusedMessage(reason=f"r{number}", queue="q", message="m", refused_at=1.0))
    code, out, _ = run("dead", "refused", "--json", "-n", "2000")
    found = json.loads(out)
    assert (code, len(found["refused"])) == (0, MAX_REFUSED)
    assert found["refused"][0]["reason"] == f"r{MAX_REFUSED + 4}", "newest first"
    _, out, _ = run("doctor", "--json")
    (check,) = [check for check in json.loads(out)["checks"] if check["name"] == "refused"]
    assert f"{MAX_REFUSED:,} messages" in check["detail"]
    assert "dead refused" in check["detail"]
    assert json.loads(run("dead", "refused", "--drop", "--json")[1])["dropped"] == MAX_REFUSED
    with Client(redis_url=redis_url) as client:
        assert client.refused.list() == []
