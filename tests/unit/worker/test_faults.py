"""Whose fault it is that a batch failed: the text's, the device's or a server's; only the first costs a text anything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill_schemas.errors import AcceleratorOutOfMemory, DeviceFailed, EncodingFailed, Unavailable
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.canary import CANARY_TEXTS, nonsense
from gristmill_worker.batching.submission import Lane, Row
from gristmill_worker.encoder.base import REMOTE, BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder

SIZE = 16


def assert_fails(_: Vectors) -> Vectors:
    raise RuntimeError("CUDA error: device-side assert triggered")


#: What becomes of all vectors on a device that is sick.
SICKNESSES: dict[str, Callable[[Vectors], Vectors]] = {
    "a device-side assert": assert_fails,
    "NaN": lambda vectors: np.full_like(vectors, np.nan),
    "zeros": np.zeros_like,
    "equal components": lambda vectors: np.full_like(vectors, SIZE**-0.5),
    "one vector for all": lambda vectors: np.tile(vectors[:1], (len(vectors), 1)),
    "too few vectors": lambda vectors: vectors[:-1],
    "vectors of another size": lambda vectors: vectors[:, :-1],
}


class Device(HashEncoder):
    """A device that can be made sick, a text that makes it so, and a door before every launch but the canary's."""

    def __init__(
        self, *, budget_tokens: int = 8, in_flight: int = 1, on_threads: bool = False, device: str = "cpu"
    ) -> None:
        super().__init__(SIZE, budget_tokens=budget_tokens)
        self.limits = BatchLimits(budget_tokens, in_flight=in_flight, on_threads=on_threads)
        self.device = device
        self.sickness: Callable[[Vectors], Vectors] | None = None
        self.away: Unavailable | None = None
        self.room = 10**9
        self.batches: list[list[str]] = []
        self.door = threading.Event()
        self.door.set()
        self.at_door = threading.Event()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        texts = [item.text for item in batch]
        if tuple(texts) != CANARY_TEXTS:
            self.at_door.set()
            assert self.door.wait(30)
            self.batches.append(texts)
        if self.away is not None:
            raise self.away
        if sum(item.n_tokens for item in batch) > self.room:
            raise AcceleratorOutOfMemory("it did not fit")
        if any("BREAK" in text for text in texts):
            self.sickness = assert_fails
        return lambda: self.sickness(self.computed(batch)) if self.sickness else self.computed(batch)

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        return self.launch(batch)()

    def computed(self, batch: Sequence[TokenizedText]) -> Vectors:
        return super().encode(batch)


MakeBatcher = Callable[..., tuple[Device, Batcher]]


@pytest.fixture
def open_batcher() -> Iterator[MakeBatcher]:
    with ExitStack() as closing:

        def make(**options: object) -> tuple[Device, Batcher]:
            device = Device(**options)  # type: ignore[arg-type]  # handed through
            batcher = Batcher(device)
            closing.callback(batcher.close)
            closing.callback(device.door.set)
            return device, batcher

        yield make


def submit(device: Device, batcher: Batcher, *texts: str, lane: Lane = Lane.BULK) -> Future[list[Row]]:
    return batcher.submit(device.tokenize(texts), lane)


def failure(future: Future[list[Row]]) -> DeviceFailed:
    error = future.exception(timeout=30)
    assert isinstance(error, DeviceFailed)
    return error


# the device's fault


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_a_device_that_falls_sick_buries_nobody(open_batcher: MakeBatcher, sickness: str) -> None:
    device, batcher = open_batcher()
    healthy = submit(device, batcher, *(f"text{n}" for n in range(20))).result(timeout=30)
    assert not [row for row in healthy if isinstance(row, Exception)]
    device.door.clear()
    device.at_door.clear()
    failing = submit(device, batcher, "a b c d", "e f g h")
    assert device.at_door.wait(30)
    waiting = [submit(device, batcher, f"w{n}", lane=list(Lane)[n % 2]) for n in range(50)]
    device.sickness = SICKNESSES[sickness]
    device.door.set()
    assert failure(failing).suspect
    assert not any(failure(future).suspect for future in waiting)
    assert batcher.sick is not None
    assert "hash:16 on cpu is sick" in batcher.sick
    with pytest.raises(DeviceFailed) as caught:
        submit(device, batcher, "late comer")
    assert not caught.value.suspect
    assert len(device.batches) <= 4, "once sick, nothing is launched any more"


def test_a_sick_device_says_what_failed_and_that_the_canary_failed_too(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher()
    device.sickness = assert_fails
    message = str(failure(submit(device, batcher, "a", "b")))
    assert message.count("device-side assert triggered") == 2
    assert "canary" in message


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_whoever_has_the_process_end_at_its_start_is_not_told_that_the_device_is_sick(
    ending: type[BaseException],
) -> None:
    """The canary is met by the main thread, and that is where a signal's handler raises."""
    device = Device()

    def interrupted(_: Vectors) -> Vectors:
        raise ending

    device.sickness = interrupted
    with pytest.raises(ending):
        Batcher(device)


def test_a_canary_whose_vectors_are_not_those_of_the_start_is_not_well(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher()
    device.sickness = lambda vectors: vectors[:, ::-1]
    device.room = 4
    assert failure(submit(device, batcher, "does not fit this time")).suspect
    assert "a text's vector is not what it was at the start" in str(batcher.sick)


def test_a_text_that_breaks_the_device_is_the_only_suspect(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher(budget_tokens=2)
    device.door.clear()
    futures = {text: submit(device, batcher, text) for text in ["first", *"abcdefgh", "BREAK", *"ijklmnop"]}
    assert device.at_door.wait(30)
    device.door.set()
    failed = {text: error for text, future in futures.items() if (error := future.exception(timeout=30))}
    guilty_batch = next(set(batch) for batch in device.batches if "BREAK" in batch)
    assert {text for text, error in failed.items() if isinstance(error, DeviceFailed) and error.suspect} == guilty_batch
    assert all(isinstance(error, DeviceFailed) for error in failed.values())


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_a_processor_that_falls_sick_while_threads_compute_buries_nobody(
    open_batcher: MakeBatcher, sickness: str
) -> None:
    device, batcher = open_batcher(in_flight=2, on_threads=True)
    submit(device, batcher, "well so far").result(timeout=30)
    device.sickness = SICKNESSES[sickness]
    device.door.clear()
    futures = [submit(device, batcher, *(f"t{n} {k} c d" for k in range(8)), lane=list(Lane)[n % 2]) for n in range(9)]
    device.door.set()
    failures = [failure(each) for each in futures]
    assert any(each.suspect for each in failures)
    assert batcher.sick is not None


def test_what_was_under_way_on_an_accelerator_is_as_suspect_as_what_failed(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher(budget_tokens=4, in_flight=2)
    device.door.clear()
    first = submit(device, batcher, "w x y z")
    assert device.at_door.wait(30)
    second, third = submit(device, batcher, "a b c d"), submit(device, batcher, "e f g h")
    device.sickness = assert_fails
    device.door.set()
    assert [failure(each).suspect for each in (first, second, third)] == [True, True, False]


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_a_device_that_is_sick_from_the_start_takes_no_work(sickness: str) -> None:
    device = Device()
    device.sickness = SICKNESSES[sickness]
    with pytest.raises(DeviceFailed, match="hash:16 on cpu cannot encode its first texts"):
        Batcher(device)


def test_memory_that_is_gone_for_a_text_whose_like_had_room_makes_no_suspect(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher(budget_tokens=16)
    submit(device, batcher, "a b c d e f g h").result(timeout=30)
    device.room = 6
    assert not failure(submit(device, batcher, "i j k l m n o p")).suspect
    assert "no memory left for a text of 8 tokens" in str(batcher.sick)


def test_a_model_thread_that_dies_leaves_nobody_waiting(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher()
    broken = TokenizedText("what no tokenizer gives", np.empty(0, np.int32), None)  # type: ignore[arg-type]  # on purpose
    device.door.clear()
    running = submit(device, batcher, "running")
    assert device.at_door.wait(30)
    fatal = batcher.submit([broken])
    device.door.set()
    assert len(running.result(timeout=30)) == 1
    failure(fatal)
    assert "the model thread died" in str(batcher.sick)
    with pytest.raises(DeviceFailed):
        submit(device, batcher, "late comer")


# a server's fault


def test_a_server_that_is_away_fails_its_callers_at_once_and_without_bisecting(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher(budget_tokens=100, device=REMOTE)
    device.away = Unavailable("503", 7)
    rows = submit(device, batcher, *"abcdefgh").result(timeout=30)
    assert all(row is device.away for row in rows)
    assert len(device.batches) == 1
    assert batcher.sick is None


def test_vectors_that_are_there_already_are_kept_when_the_server_goes_away(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher(budget_tokens=4, device=REMOTE)
    device.door.clear()
    running = submit(device, batcher, "running")
    assert device.at_door.wait(30)
    future = submit(device, batcher, "a b c d", *"efghijklmnop")
    launch = device.launch

    def once_more(batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        if len(device.batches) == 2:
            device.away = Unavailable("it is gone")
        return launch(batch)

    device.launch = once_more  # type: ignore[method-assign]  # goes away after the longest text
    device.door.set()
    first, *others = future.result(timeout=30)
    assert isinstance(first, np.ndarray)
    assert all(isinstance(row, Unavailable) for row in others)
    assert len(device.batches) == 3, "what its caller does not wait for any more is not launched"
    running.result(timeout=30)


def test_a_query_hears_at_once_that_the_server_is_away(open_batcher: MakeBatcher) -> None:
    device, batcher = open_batcher(device=REMOTE)
    device.away = Unavailable("503", 60)
    (row,) = submit(device, batcher, "query", lane=Lane.INTERACTIVE).result(timeout=30)
    assert row is device.away


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_a_server_that_answers_nonsense_is_waited_for(open_batcher: MakeBatcher, sickness: str) -> None:
    device, batcher = open_batcher(device=REMOTE)
    device.sickness = SICKNESSES[sickness]
    rows = submit(device, batcher, "a b", "c d").result(timeout=30)
    assert all(isinstance(row, Unavailable) for row in rows)
    assert batcher.sick is None
    device.sickness = None
    assert not any(isinstance(row, Exception) for row in submit(device, batcher, "a b", "c d").result(timeout=30))


# the text's fault


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 64), st.integers(1, 4), st.booleans())
def test_with_a_sound_canary_exactly_the_poisoned_texts_fail(
    poisoned: list[bool], budget: int, in_flight: int, on_threads: bool
) -> None:
    class Poisonable(Device):
        def computed(self, batch: Sequence[TokenizedText]) -> Vectors:
            if any("poison" in item.text for item in batch):
                raise RuntimeError("CUDA error: device-side assert triggered")
            return super().computed(batch)

    device = Poisonable(budget_tokens=budget, in_flight=in_flight, on_threads=on_threads)
    batcher = Batcher(device)
    try:
        texts = [f"{'poison' if bad else 'bread'} {n}" for n, bad in enumerate(poisoned)]
        rows = submit(device, batcher, *texts).result(timeout=30)
    finally:
        batcher.close()
    assert [isinstance(row, EncodingFailed) for row in rows] == poisoned
    assert batcher.sick is None


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 64])
def test_right_vectors_are_never_taken_for_nonsense(dimensions: int) -> None:
    encoder = HashEncoder(dimensions)
    batch = encoder.tokenize(["a", "b", "a"])
    assert nonsense(batch, encoder.encode(batch), dimensions) is None
    assert nonsense(batch[::2], encoder.encode(batch[::2]), dimensions) is None, "one text twice has one vector twice"


def test_texts_that_are_cut_to_the_same_tokens_may_have_one_vector() -> None:
    ids = np.arange(5, dtype=np.int32)
    batch = [TokenizedText(text, ids, 5, truncated=True) for text in ("one two", "one three")]
    assert nonsense(batch, np.tile(HashEncoder(8).encode([batch[0]]), (2, 1)), 8) is None


class Stuck(HashEncoder):
    """From some moment on it gives everything the vector of its first text, one text at a time."""

    stuck = False

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        vectors = super().encode(batch)
        if self.stuck:
            vectors[:] = super().encode([TokenizedText("always this", batch[0].ids, 2)])
        return vectors


def test_one_vector_for_texts_that_come_one_by_one_is_seen_too() -> None:
    encoder = Stuck(16)
    batcher = Batcher(encoder)
    try:
        batcher.submit(encoder.tokenize(["well"])).result(60)
        encoder.stuck = True
        batcher.submit(encoder.tokenize(["first"])).result(60)
        with pytest.raises(DeviceFailed):
            batcher.submit(encoder.tokenize(["second"])).result(60)
        assert batcher.sick is not None
    finally:
        batcher.close()


def test_different_texts_that_mean_the_same_to_a_model_that_is_well_are_encoded() -> None:
    class CaseBlind(HashEncoder):
        def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
            return super().encode([TokenizedText(item.text.lower(), item.ids, item.n_tokens) for item in batch])

    encoder = CaseBlind(16)
    batcher = Batcher(encoder)
    try:
        for text in ("Rye", "rye", "RYE"):
            (row,) = batcher.submit(encoder.tokenize([text])).result(60)
            assert isinstance(row, np.ndarray)
    finally:
        batcher.close()
