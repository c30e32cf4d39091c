"""A tenant that is erased is nowhere, whatever was under way, and its neighbours lose nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill import AsyncClient, Chunking, Client, CollectionNotFound, Document, Erasure, InvalidInput, LongTexts
from gristmill.ledger.reading import MemoryEvidence
from gristmill.maintenance.bulk_loads import paused
from gristmill.maintenance.erasing import Eraser
from gristmill_schemas import Deletion
from gristmill_schemas.audit import PLACES
from interleaving import CHUNK_WORDS, Order, Stage

LONG = "word " * 9000
Run = Callable[..., tuple[int, str, str]]


def filled(client: Client, name: str) -> None:
    """Of each tenant documents, one in several chunks, a dead letter and a deletion that is remembered."""
    policy = Chunking(size=16, overlap=0, long_texts=LongTexts.CHUNK)
    client.create_collection(name, tenants=True, chunking=policy)
    refusing = f"{name}-refusing"
    client.create_collection(refusing, tenants=True, chunking=Chunking(long_texts=LongTexts.REFUSE))
    for tenant in ("acme", "evil"):
        documents = [Document(id=id, tenant=tenant, text=f"{id} " * 40, version=7) for id in ("1", "2", "3")]
        client.enqueue(name, documents, tenant=tenant).wait(60).raise_for_failures()
        client.delete(name, "3", tenant=tenant, version=9).wait(60)
        assert client.enqueue(refusing, {"id": "long", "text": LONG, "tenant": tenant}).wait(60).dead == 1


def left_of(proof: Erasure) -> dict[str, int]:
    return {place: getattr(proof, place).left for place in PLACES}


def test_an_erased_tenant_is_nowhere_and_a_second_look_confirms_it(client: Client, collection_name: str) -> None:
    filled(client, name := f"{collection_name}-shared")
    for each in (name, f"{name}-refusing"):
        before = client.confirm_erased(each, "acme")
        assert not before.is_complete
        proof = client.erase_tenant(each, "acme")
        assert proof.is_complete
        assert {place: getattr(proof, place).erased for place in PLACES} == left_of(before)
        for again in (client.confirm_erased(each, "acme"), client.erase_tenant(each, "acme")):
            assert {getattr(again, place).found for place in PLACES} == {0}
    assert (before.dead_letters.found, before.roster.found, before.jobs.found) == (1, 1, 1)
    acme, evil = client.tenant("acme"), client.tenant("evil")
    assert (acme.count(name), acme.dead.list(), acme.jobs.list(), acme.get(name, ["1", "2", "3"])) == (0, [], [], [])
    assert (evil.count(name), len(evil.dead.list()), len(evil.jobs.list())) == (2, 1, 3)
    assert client.receipt(name, "3", tenant="evil").state == "deleted"


def test_what_is_enqueued_after_an_erasure_is_stored_whatever_its_version(client: Client, collection_name: str) -> None:
    filled(client, name := f"{collection_name}-shared")
    client.erase_tenant(name, "acme")
    again = [Document(id=id, tenant="acme", text="again", version=1) for id in ("1", "3")]
    assert client.enqueue(name, again).wait(60).stored == 2
    assert client.audit(name, again, tenant="acme").gaps == 0
    assert client.tenant("acme").count(name) == 2


def test_a_tenant_is_erased_from_collections_that_do_not_keep_tenants_apart(
    client: Client, collection_name: str
) -> None:
    pair = [Document(id="1", tenant=tenant, text="t") for tenant in ("acme", None)]
    client.enqueue(collection_name, pair).wait(60).raise_for_failures()
    assert client.erase_tenant(collection_name, "acme").points.erased == 1
    assert [each.tenant for each in client.get(collection_name, ["1"])] == [None]


@pytest.mark.parametrize("call", ["erase_tenant", "confirm_erased"])
def test_whom_to_erase_from_what_has_to_be_said(call: str) -> None:
    with Client.embedded(model="hash:16") as client:
        with pytest.raises(CollectionNotFound):
            getattr(client, call)("absent", "acme")
        for tenant in ("", None, 5.5):
            with pytest.raises(InvalidInput, match="tenant") as refused:
                getattr(client, call)("absent", tenant)
            assert refused.value.field == "tenant"


def test_the_async_client_erases_and_confirms() -> None:
    async def erase() -> tuple[Erasure, Erasure]:
        async with AsyncClient.embedded(model="hash:16") as client:
            await client.create_collection("c", tenants=True)
            job = await client.enqueue("c", {"id": "1", "text": "t"}, tenant="acme")
            await job.wait(60)
            return await client.erase_tenant("c", "acme"), await client.confirm_erased("c", "acme")

    proof, confirmed = asyncio.run(erase())
    assert (proof.points.erased, proof.is_complete, confirmed.points.found) == (1, True, 0)


def test_the_command_line_erases_a_tenant_and_confirms_it(run: Run, embedded: Path) -> None:
    file = embedded / "docs.jsonl"
    file.write_text("\n".join(json.dumps({"id": str(n), "text": f"text {n}"}) for n in range(3)))
    assert run("collections", "create", "shared", "--tenants")[0] == 0
    for tenant in ("acme", "evil"):
        assert run("ingest", str(file), "-c", "shared", "--tenant", tenant)[0] == 0
    code, _, err = run("ingest", str(file), "-c", "shared")
    assert (code, "keeps tenants apart" in err) == (1, True)
    code, _, err = run("search", "shared", "text")
    assert (code, "keeps tenants apart" in err) == (2, True)
    code, _, err = run("tenants", "erase", "shared", "acme")
    assert (code, "Erase tenant 'acme' from 'shared': 3 points?" in err) == (2, True), err
    assert run("tenants", "confirm", "shared", "acme")[0] == 1
    code, out, _ = run("tenants", "erase", "shared", "acme", "--yes", "--json")
    proof = json.loads(out)
    assert (code, proof["points"], proof["is_complete"]) == (0, {"found": 3, "erased": 3, "left": 0}, True)
    code, out, _ = run("tenants", "confirm", "shared", "acme")
    assert (code, "nothing is left" in out) == (0, True)
    code, out, _ = run("audit", "shared", "--tenant", "evil", "--json")
    assert (code, json.loads(out)["documents"]) == (0, 3)


# while workers write


def of(tenant: str, *ids: str, chunks: int = 1) -> list[Document]:
    text = " ".join(f"w{n}" for n in range(chunks * CHUNK_WORDS))
    return [Document(id=id, tenant=tenant, text=f"{id} {text}", version=5) for id in ids]


ITEMS: list[Document | Deletion] = [
    *of("acme", "1", "2", chunks=3),
    *of("evil", "1", chunks=3),
    Deletion(id="3", tenant="acme", version=6),
    Deletion(id="3", tenant="evil", version=6),
]


def erased(stage: Stage, tenant: str = "acme") -> Erasure:
    evidence = MemoryEvidence(stage.ledger)
    names = stage.collections.names_of(stage.spec)
    eraser = Eraser(stage.store, stage.ledger, evidence, lambda model: None, stage.spec, names, tenant)
    return paused(eraser.run(0.0))


def confirmed(stage: Stage) -> Erasure:
    names = stage.collections.names_of(stage.spec)
    return Eraser(
        stage.store, stage.ledger, MemoryEvidence(stage.ledger), lambda model: None, stage.spec, names, "acme"
    ).look()


def steps() -> int:
    """Calls of a worker on its way through the parcel."""
    stage = Stage()
    stage.deliver(*of("acme", "3"), *of("evil", "3"))
    actor, taken = stage.take(*ITEMS), 0
    while not actor.finished:
        actor.step()
        taken += 1
    stage.close()
    return taken


@pytest.mark.parametrize("end", ["goes on", "is robbed and goes on", "dies"])
def test_what_a_worker_was_writing_does_not_come_back_wherever_it_was(end: str) -> None:
    for step in range(steps()):
        stage = Stage()
        stage.deliver(*of("acme", "3"), *of("evil", "3"))
        actor = stage.take(*ITEMS)
        for _ in range(step):
            actor.step()
        if end == "is robbed and goes on":
            stage.deliver_again(actor).finish()
        proof = erased(stage)
        assert proof.is_complete, step
        if end == "dies":
            if not actor.finished:
                actor.step(Order.DIE_AFTER)
            stage.deliver_again(actor).finish()
        else:
            actor.finish()
        stage.work_off()
        stage.look_after()
        systems = [system for system, _ in stage.store_points()]
        assert {each.tenant for each in systems} <= {"evil"}, step
        assert {(each.id, each.chunk) for each in systems} == {("1", chunk) for chunk in range(4)}, step
        assert left_of(confirmed(stage)) == dict.fromkeys(PLACES, 0), step
        assert [report.pending for report in stage.reports()] == [0, 0]
        if end != "dies":
            assert stage.ledger.retractions() == [], "who goes on cleans up after itself"
        assert stage.deliver(*of("acme", "1")).stored == 1, step
        stage.look_after()
        assert [system.id for system, _ in stage.store_points() if system.tenant == "acme"] == ["1", "1"]
        stage.close()
