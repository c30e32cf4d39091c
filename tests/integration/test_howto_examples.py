"""The programs of the how-to pages: a Django project, a FastAPI service, and a client of it in another language."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from gristmill import AsyncClient, QueueFull
from waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    """`examples/document_service.py`, whose `AsyncClient()` is the whole mill in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRISTMILL_EMBEDDED_PATH", ":memory:")
        patch.setenv("GRISTMILL_MODEL", "hash:64")
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("document_service").app


@pytest.fixture(scope="module")
def service(app: Any) -> Iterator[httpx.Client]:
    """The same, as uvicorn runs it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started, 60.0)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def faq(app: Any, service: httpx.Client, collection_name: str) -> str:
    """A collection of the service."""
    asyncio.run(app.state.client.create_collection(collection_name))
    return collection_name


def done(service: httpx.Client, job: str) -> dict[str, Any]:
    def report() -> Any:
        told = service.get(f"/jobs/{job}").json()
        return told if told["state"] == "done" else None

    return dict(eventually(report, 60.0))


def test_the_service_takes_documents_and_names_those_that_are_none(service: httpx.Client, faq: str) -> None:
    documents = [{"id": "1", "text": "a voucher"}, {"id": "2", "text": ""}, {"id": "3", "txt": "x"}]
    taken = service.put(f"/collections/{faq}/documents", json=documents)
    assert taken.status_code == 202
    assert [each["id"] for each in taken.json()["rejected"]] == ["2", "3"]
    assert done(service, taken.json()["job"])["stored"] == 1
    (hit,) = service.get(f"/collections/{faq}/search", params={"q": "voucher", "instruction": "preset:faq"}).json()
    assert (hit["id"], hit["instruction"]) == ("1", "preset:faq@1")
    gone = service.delete(f"/collections/{faq}/documents/1").json()
    assert done(service, gone["job"])["deleted"] == 1


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/collections/none/search?q=x", 404, "CollectionNotFound"),
        ("/collections/{faq}/search?q=%20", 422, "InvalidInput"),
        ("/jobs/abc", 422, "InvalidInput"),
    ],
)
def test_the_service_says_what_is_wrong_with_a_request(
    service: httpx.Client, faq: str, path: str, status: int, error: str
) -> None:
    answer = service.get(path.format(faq=faq))
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_the_service_asks_for_patience_where_a_server_is_away(
    monkeypatch: pytest.MonkeyPatch, service: httpx.Client
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise QueueFull("the queue is full")

    monkeypatch.setattr(AsyncClient, "enqueue", full)
    answer = service.put("/collections/faq/documents", json=[{"id": "1", "text": "x"}])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH")
def test_a_program_in_another_language_enqueues_through_the_service(
    service: httpx.Client, faq: str, tmp_path: Path
) -> None:
    lines = [json.dumps({"id": str(n), "text": f"用了优惠券 {n}"}, ensure_ascii=False) for n in range(700)]
    (tmp_path / "documents.jsonl").write_text("\n".join([*lines, '{"id": "bad", "text": " "}']), "utf-8")
    call = ["node", str(EXAMPLES / "enqueue.mjs"), str(service.base_url).rstrip("/"), faq, "documents.jsonl"]
    ran = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(ran.stdout) == {"stored": 700, "skipped": 0, "dead": 0, "rejected": 1}
    assert ran.stderr == "bad: text: expected text to embed, got an empty or blank string\n"


SHOP = """
import json
import django
django.setup()
from django.core.management import call_command
from django.db import transaction
from django.test import Client as Browser
from django_faq import indexing
from django_faq.models import Entry

call_command("migrate", run_syncdb=True, verbosity=0)
call_command("index_entries")
told, mill = {}, indexing.client()
def jobs(): return [mill.jobs.get(report.job_id).wait() for report in mill.jobs.list()]
def ids(): return sorted(d.id for d in mill.documents("faq"))
def text(key): return mill.get("faq", str(key)).text

entry = Entry.objects.create(question="Refunds", answer="Within five days.")
jobs(); told["created"] = ids()
try:
    with transaction.atomic():
        Entry.objects.create(question="Never", answer="rolled back")
        raise LookupError
except LookupError:
    jobs(); told["rolled back"] = ids()
entry.answer = "Within ten days."
entry.save()
entry.question = "Money back"
entry.save(update_fields=["question"])
jobs(); told["changed"] = [text(entry.pk), Entry.objects.get().revision]
stale = indexing.document(Entry(pk=entry.pk, question="old", answer="old", revision=2))
told["stale"] = mill.enqueue("faq", stale).wait().superseded
Entry.objects.bulk_create([Entry(question="Vouchers", answer="From 20 euros on.", language="en")])
mill.enqueue("faq", {"id": "99", "text": "in no row"}).wait()
call_command("index_entries")
told["repaired"] = ids()
answer = Browser().get("/search", {"q": "Vouchers From 20 euros on.", "lang": "en"})
told["searched"] = [answer.status_code, len(answer.json()["hits"])]
told["refused"] = Browser().get("/search", {"q": ""}).status_code
entry.delete()
jobs(); told["deleted"] = ids()
mill.close()
print(json.dumps(told))
"""


@pytest.mark.slow
def test_the_django_project_searches_what_its_table_holds(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join([str(EXAMPLES), *sys.path]),
        "DJANGO_SETTINGS_MODULE": "django_faq.settings",
        "GRISTMILL_EMBEDDED_PATH": ":memory:",
        "GRISTMILL_MODEL": "hash:64",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", SHOP],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *printed, told = ran.stdout.splitlines()
    assert printed == ["0 stored, 0 unchanged, 0 deleted, 0 dead", "1 stored, 1 unchanged, 1 deleted, 0 dead"]
    assert json.loads(told) == {
        "created": ["1"],
        "rolled back": ["1"],
        "changed": ["Money back\n\nWithin ten days.", 3],
        "stale": 1,
        "repaired": ["1", "2"],
        "searched": [200, 2],
        "refused": 400,
        "deleted": ["2"],
    }
