"""A device that breaks, for a moment, for one text or for good, buries nobody but the text that broke it."""

from __future__ import annotations

import time

import pytest

from chaos.device import Illness, Ward
from chaos.mill import Conclude, MakeMill, send_off, texts_of
from chaos.verdict import add_up, buried, judge, meaningless, settled
from gristmill_worker.encoder.hash_encoder import HashEncoder
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SHORT_OR_LONG = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]
#: A lease is short, since every process that ends here takes one with it.
LEASE = {"GRISTMILL_LEASE_S": "2"}


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
@pytest.mark.parametrize("illness", list(Illness))
def test_a_device_that_breaks_costs_a_process_and_no_document(
    illness: Illness, scale: int, mill: MakeMill, conclude: Conclude, ward: Ward
) -> None:
    """It raises, or gives NaN, zeros or one vector for everything, until its process ends; a fresh process is well."""
    made, started = mill(workers=2, environment=LEASE | ward.environment), time.monotonic()
    texts = texts_of(640 * scale)
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        for _ in range(scale):
            ward.once(illness)
        reports = settled(client, [send_off(client, texts)], deadline_s=60 * scale)
        conclude(add_up(judge(client, "c", texts), reports, made.done, started))
        wrong = meaningless(client, "c", HashEncoder(32))
        assert not wrong, f"{wrong} stored vectors are not those of their texts"
        assert ward.struck, "no device fell ill"
        eventually(lambda: made.done["restarts"] >= ward.struck)
        client.collections.delete("c")


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_a_text_that_breaks_the_device_of_every_process_dies_alone(
    scale: int, mill: MakeMill, conclude: Conclude, ward: Ward
) -> None:
    made, started = mill(workers=2, environment=LEASE | ward.environment), time.monotonic()
    bad = made.random.sample(range(640 * scale), k=scale)
    texts = texts_of(640 * scale, dict.fromkeys(bad, "POISON-DEVICE"))
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        reports = settled(client, [send_off(client, texts)], deadline_s=60 * scale)
        conclude(add_up(judge(client, "c", texts, bad={str(n) for n in bad}), reports, made.done, started))
        assert set(buried(client)) == {str(n) for n in bad}
        assert ward.struck > 1, "one broken device proves nothing against a text"
        client.collections.delete("c")


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_a_worker_whose_device_stays_broken_leaves_the_work_to_the_other(
    scale: int, mill: MakeMill, conclude: Conclude, ward: Ward
) -> None:
    made, started = mill(workers=2, environment=LEASE, each={0: ward.environment}), time.monotonic()
    texts = texts_of(1_280 * scale)
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        before = send_off(client, texts_of(256))
        settled(client, [before], deadline_s=60)
        ward.chronic(Illness.ASSERT)
        reports = settled(client, [before, send_off(client, texts)], deadline_s=60 * scale)
        conclude(add_up(judge(client, "c", texts), reports, made.done, started))
        assert ward.struck, "no device fell ill"
        client.collections.delete("c")
