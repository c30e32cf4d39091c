"""Jobs are cancelled, paused and resumed while a worker works: by the client, by a tenant's, and at the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, Document, InvalidInput, Job, JobCancelled, JobState
from gristmill.settings import variable
from gristmill_schemas import Gap, ReceiptState, point_id
from services import WorkerProcess
from waiting import eventually

Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Mill:
    """A client over real servers, and a collection."""

    client: Client
    collection: str

    def newest(self) -> Job:
        """The job that was opened last."""
        (report,) = self.client.jobs.list(1)
        return self.client.jobs.get(report.job_id)

    def half_paused(self) -> Job:
        """A job of 2,000 documents: some are stored, then it was paused, and the rest was handed over."""

        def stream() -> Iterator[Document]:
            yield from texts("a", 1_000)
            job = self.newest()
            eventually(lambda: job.report().stored, 60)
            job.pause()
            yield from texts("a", 1_000, since=1_000)

        return self.client.enqueue(self.collection, stream())

    def stored(self, name: str) -> int:
        """How many of these are in the store."""
        return sum(document.id.startswith(name) for document in self.client.documents(self.collection))


def texts(name: str, count: int, since: int = 0) -> Iterator[Document]:
    return (Document(id=f"{name}{n}", text=f"{name} says {n}") for n in range(since, since + count))


@pytest.fixture
def mill(settings: dict[str, Any], collection_name: str, tmp_path: Path) -> Iterator[Mill]:
    """Beside a worker process."""
    environment = {variable(name): str(value) for name, value in settings.items()}
    with WorkerProcess(tmp_path / "worker", environment), Client(**settings, model="hash:16") as client:
        client.create_collection(collection_name)
        yield Mill(client, collection_name)


def test_a_job_is_cancelled_while_a_worker_works_and_every_document_is_accounted_for(mill: Mill) -> None:
    job = mill.half_paused()
    other = mill.client.enqueue(mill.collection, texts("b", 100))
    job.cancel()
    report = job.wait(60)
    assert (report.state, report.accepted, report.paused) == (JobState.DONE, 2_000, False)
    assert report.stored + report.cancelled == 2_000
    assert min(report.stored, report.cancelled) > 0
    assert other.wait(60).stored == 100
    assert (mill.stored("a"), mill.stored("b")) == (report.stored, 100)
    audit = mill.client.audit(mill.collection)
    assert (audit.missing, audit.expected) == (0, report.stored + 100)
    with pytest.raises(InvalidInput, match="is over, and nothing was changed"):
        job.pause()


def test_of_a_paused_job_nothing_more_is_stored_until_it_is_resumed(mill: Mill) -> None:
    job = mill.half_paused()
    eventually(lambda: not mill.client.queue().models[0].held_parcels, 60)
    before = job.report()
    assert before.paused
    assert before.pending > 0
    assert mill.client.enqueue(mill.collection, texts("b", 100)).wait(60).stored == 100
    assert job.report().stored == before.stored == mill.stored("a")
    assert not job.resume().paused
    assert job.wait(60).stored == mill.stored("a") == 2_000


def test_idle_workers_hear_at_once_of_a_job_that_is_resumed() -> None:
    with Client.embedded(model="hash:16", reconcile_every_s=3600) as client:
        client.create_collection("c")
        mill = Mill(client, "c")

        def stream() -> Iterator[Document]:
            mill.newest().pause()
            yield from texts("a", 200)

        job = client.enqueue("c", stream())
        # Its messages are behind those of the paused job, which have told of nothing.
        assert client.enqueue("c", texts("b", 100)).wait(60).stored == 100
        assert job.report().finished == 0
        job.resume()
        assert job.wait(60).stored == 200


def test_the_version_that_a_cancelled_update_would_have_replaced_is_expected_and_missed_if_it_is_lost() -> None:
    with Client.embedded(model="hash:16") as client:
        client.create_collection("c")
        mill = Mill(client, "c")
        client.enqueue("c", texts("a", 10)).wait(60)

        def stream() -> Iterator[Document]:
            mill.newest().pause()
            yield from (Document(id=f"a{n}", text="newer") for n in range(20))

        assert client.enqueue("c", stream()).cancel().cancelled == 20
        audit = client.audit("c")
        assert (audit.expected, audit.documents, audit.findings) == (10, 10, ())
        assert client.receipt("c", "a3").state is ReceiptState.STORED
        client._parts.store.delete("c", [point_id("a3", None)])
        (lost,) = client.audit("c").findings
        assert (lost.gap, lost.id) == (Gap.MISSING, "a3")


def test_who_still_hands_documents_over_is_told_that_the_job_was_cancelled(mill: Mill) -> None:
    def stream() -> Iterator[Document]:
        yield from texts("a", 500)
        mill.newest().cancel()
        yield from texts("a", 500, since=500)

    with pytest.raises(JobCancelled, match="was cancelled while its documents were handed over") as caught:
        mill.client.enqueue(mill.collection, stream())
    assert not hasattr(caught.value, "__notes__"), "nothing of it is on its way"
    report = mill.newest().wait(60)
    assert 0 < report.stored + report.cancelled == report.accepted <= 500


@pytest.fixture
def idle(settings: dict[str, Any], collection_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    """Where no worker is, and the command line speaks to."""
    for name, value in settings.items():
        monkeypatch.setenv(variable(name), str(value))
    with Client(**settings) as client:
        yield Mill(client, collection_name)


def opened(mill: Mill, tenant: str | None = None) -> Job:
    """A job with nothing in it yet, as its producer leaves it between two documents."""
    ticket = mill.client._parts.ledger.open_job(mill.collection, tenant=tenant)
    return mill.client.jobs.get(ticket.job_id)


def test_the_command_line_pauses_resumes_and_cancels(run: Run, idle: Mill) -> None:
    ids = [opened(idle).id, opened(idle).id]
    for verb, paused, state in (("pause", True, "open"), ("resume", False, "open"), ("cancel", False, "done")):
        code, out, _ = run("jobs", verb, *ids, "--json")
        reports = json.loads(out)["jobs"]
        assert (code, [each["job_id"] for each in reports]) == (0, ids), verb
        assert [(each["paused"], each["state"]) for each in reports] == [(paused, state)] * 2, verb
    code, _, problem = run("jobs", "resume", ids[0])
    assert code != 0
    assert f"job {ids[0]} is over, and nothing was changed" in " ".join(problem.split())


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_an_unknown_job_is_named_and_the_others_are_left_as_they_are(run: Run, idle: Mill, verb: str) -> None:
    job = opened(idle)
    before = job.report().model_copy(update={"seconds": 0.0})
    code, out, problem = run("jobs", verb, job.id, "absent", "--json")
    assert code != 0
    assert "absent" in out + problem
    assert "unknown" in out + problem
    assert job.report().model_copy(update={"seconds": 0.0}) == before


def test_a_tenant_steers_its_own_jobs_alone(idle: Mill) -> None:
    mine, others = opened(idle, "acme"), opened(idle, "evil")
    acme = idle.client.tenant("acme")
    for job_id in (others.id, "absent"):
        with pytest.raises(InvalidInput, match=f"job '{job_id}' is unknown"):
            acme.jobs.get(job_id)
    steered = acme.jobs.get(mine.id)
    assert (steered.pause().paused, steered.resume().paused) == (True, False)
    assert steered.cancel().state is JobState.DONE
    assert others.report().state is JobState.OPEN
