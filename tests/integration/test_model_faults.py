"""What a device or a model server that fails does to parcels: nothing that lasts. Only a text's own fault costs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gristmill_schemas import Document
from gristmill_schemas.errors import Unavailable
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.handler import Handled
from interleaving import Stage
from waiting import eventually


class Frail(HashEncoder):
    """Falls sick at the text BREAK, or when told to; its server goes away when told to."""

    def __init__(self, device: str = "cpu") -> None:
        super().__init__(8)
        self.device = device
        self.sick = False
        self.spoil: Callable[[Vectors], Vectors] | None = None
        self.away: Unavailable | None = None
        self.asked = threading.Event()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        self.sick = self.sick or any("BREAK" in item.text for item in batch)
        if self.away is not None:
            self.asked.set()
            raise self.away
        if self.sick and self.spoil is None:
            raise RuntimeError("CUDA error: device-side assert triggered")
        vectors = self.encode(batch)
        return lambda: self.spoil(vectors) if self.sick and self.spoil else vectors


@pytest.fixture
def encoder(request: pytest.FixtureRequest) -> Frail:
    return Frail(getattr(request, "param", "cpu"))


@pytest.fixture
def stage(encoder: Frail) -> Iterator[Stage]:
    made = Stage(encoder=encoder, max_attempts=3)
    yield made
    made.close()


def new_process(stage: Stage, encoder: Frail) -> None:
    """What the supervisor does after a process has ended itself."""
    encoder.sick = False
    stage._batcher.close()
    stage._batcher = Batcher(encoder)


def dead(stage: Stage) -> int:
    return sum(report.dead for report in stage.reports())


def attempts(stage: Stage) -> list[int]:
    return [kept.attempts for kept in stage.ledger._parcels.values()]


SPOILS: dict[str, Callable[[Vectors], Vectors] | None] = {
    "it raises": None,
    "NaN for everything": lambda vectors: np.full_like(vectors, np.nan),
    "zeros for everything": np.zeros_like,
}


@pytest.mark.parametrize("how", SPOILS)
def test_a_sick_device_gives_every_parcel_back_and_only_suspects_keep_an_attempt_spent(
    stage: Stage, encoder: Frail, how: str
) -> None:
    encoder.spoil = SPOILS[how]
    for number in range(20):
        stage.accept([Document(id=f"{number}", text=f"text {number}")])
    encoder.sick = True
    worker = stage.pipeline()
    assert {worker.process() for _ in range(20)} == {Handled.LATER}
    assert dead(stage) == 0
    assert sorted(attempts(stage)) == [0] * 19 + [1]
    new_process(stage, encoder)
    stage.work_off()
    assert dead(stage) == 0
    assert len(stage.points()) == 20


def test_a_text_that_breaks_every_fresh_process_is_given_up_and_nothing_else_is(stage: Stage, encoder: Frail) -> None:
    stage.accept([Document(id="guilty", text="BREAK"), Document(id="company", text="good")])
    for number in range(5):
        stage.accept([Document(id=f"{number}", text=f"text {number}")])
    for _ in range(60):
        if not stage.ledger.load().parcels:
            break
        stage.end_delays()
        stage.pipeline().process()
        if encoder.sick:
            new_process(stage, encoder)
    assert {document for document, _ in stage.points()} == {"company", *map(str, range(5))}
    (letter,) = stage.ledger.dead_letters(10)
    assert letter.document is not None
    assert (letter.document.id, "device-side assert" in letter.reason) == ("guilty", True)


@pytest.mark.parametrize("encoder", ["remote"], indirect=True)
def test_parcels_wait_for_a_model_server_that_is_away_and_say_so(stage: Stage, encoder: Frail) -> None:
    stage.accept([Document(id=f"{number}", text=f"text {number}") for number in range(10)])
    worker = stage.pipeline(server_wait_s=60)
    encoder.away = Unavailable("the model server answers 503", retry_after_s=0.01)
    with ThreadPoolExecutor(1) as thread:
        handled = thread.submit(worker.process)
        assert encoder.asked.wait(60)
        eventually(lambda: any("503" in notice for notice in stage.notices(worker)))
        encoder.away = None
        assert handled.result(timeout=60) is Handled.DONE
    assert dead(stage) == 0
    assert {system.attempts for system, _ in stage.points().values()} == {1}
    assert stage.notices(worker) == []
