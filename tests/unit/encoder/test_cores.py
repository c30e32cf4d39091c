"""Launches that share a processor's cores: the same vectors side by side as alone, and torch's threads as they were."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.local.cpu.cores import Cores, launches_at_once, torch_threads
from gristmill_worker.encoder.local.encoder import TransformersEncoder

from .conftest import BUILDERS, TEXTS


@pytest.fixture(autouse=True)
def four_threads(one_thread: None) -> None:
    """Whatever this machine has."""
    torch.set_num_threads(4)


@pytest.fixture
def at_each_others_heels() -> Iterator[None]:
    """Threads take turns all the time, so that what one leaves for later is met by the other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("at_each_others_heels")
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_launches_side_by_side_give_what_each_gives_alone(model_root: Path, name: str, dtype: str) -> None:
    encoder = open_encoder(str(model_root / name), device="cpu", dtype=dtype, budget_tokens=64)
    if not encoder.limits.on_threads:
        pytest.skip("its texts are padded")
    texts = encoder.tokenize(TEXTS)
    batches = [texts[start : start + size] for size in (1, 2, 3) for start in range(len(texts) - size)]
    alone = [encoder.encode(batch) for batch in batches]
    with ThreadPoolExecutor(encoder.limits.in_flight + 1) as threads:
        for _ in range(5):
            beside = threads.map(lambda batch: encoder.launch(batch)(), batches)
            for vectors, expected in zip(beside, alone, strict=True):
                # Products are cut otherwise for fewer threads, so they round otherwise.
                np.testing.assert_allclose(vectors, expected, atol=2e-6 if dtype == "float32" else 2e-2)
    encoder.close()


def test_a_core_each_and_all_for_one(model_root: Path) -> None:
    encoder = open_encoder(str(model_root / "bert"), device="cpu", budget_tokens=64)
    assert (encoder.limits.in_flight, encoder.limits.on_threads) == (4, True)
    torch.set_num_threads(1)
    encoder = open_encoder(str(model_root / "bert"), device="cpu", budget_tokens=64)
    assert (encoder.limits.in_flight, encoder.limits.on_threads) == (1, False)


def test_torch_has_a_share_of_the_threads_or_all_and_gets_them_back() -> None:
    cores = Cores(2)
    with cores.share():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4
    with cores.alone():
        assert torch.get_num_threads() == 4
    with Cores(1).share():
        assert torch.get_num_threads() == 4


def test_a_query_has_a_share_beside_one_that_has_all() -> None:
    cores = Cores(2)
    with cores.alone(), cores.share() as crowded:
        assert torch.get_num_threads() == 2
        assert crowded()


def test_queries_that_never_pause_do_not_keep_out_who_wants_all() -> None:
    cores = Cores(2)
    with cores.share(), ThreadPoolExecutor(1) as threads:

        def alone() -> None:
            with cores.alone():
                pass

        threads.submit(alone).result(60)


def test_who_wants_all_waits_for_those_who_share_and_all_but_a_query_for_it() -> None:
    cores, order, has_all, may_end = Cores(2), list[str](), threading.Event(), threading.Event()

    def alone() -> None:
        with cores.alone():
            order.append("alone")
            has_all.set()
            assert may_end.wait(60)
            order.append("ended")

    def late() -> None:
        with cores.share():
            order.append("late")

    with ThreadPoolExecutor(2) as threads:
        with cores.share(), cores.share():
            waiting = threads.submit(alone)
            order.append("first")
        assert has_all.wait(60)
        with cores.share():
            behind = threads.submit(late)
            may_end.set()
            waiting.result(60)
            behind.result(60)
    assert order == ["first", "alone", "ended", "late"]


def test_a_query_has_a_share_beside_as_many_launches_as_there_are_cores() -> None:
    cores, alone = Cores(4), threading.Event()

    def all_of_them() -> None:
        with cores.alone():
            alone.set()

    with ThreadPoolExecutor(1) as threads:
        with ExitStack() as launches:
            crowded = [launches.enter_context(cores.share()) for _ in range(4)]
            assert not any(each() for each in crowded)
            with cores.share():
                assert torch.get_num_threads() == 1
                waiting = threads.submit(all_of_them)
            assert all(each() for each in crowded)
            assert not alone.is_set()
        waiting.result(60)
    with cores.share() as crowded_now:
        assert not crowded_now()


def test_one_that_failed_gives_its_share_back() -> None:
    cores = Cores(2)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), cores.share():
            raise ValueError("broken")
    with cores.alone():
        pass


class _Told:
    """A tuning that only listens."""

    budget_tokens = 64

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def launched(self, tokens: int, _: float) -> None:
        self.tokens.append(tokens)


def test_what_a_query_ran_beside_says_nothing_of_the_budget(model_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = open_encoder(str(model_root / "bert"), device="cpu", dtype="float32", budget_tokens=64)
    assert isinstance(encoder, TransformersEncoder)
    encoder.tuning = told = _Told()  # type: ignore[assignment]
    batch, forward = encoder.tokenize(TEXTS[:2]), encoder._forward
    computing, may_end = threading.Semaphore(0), threading.Event()

    def held(*inputs: Any) -> Any:
        computing.release()
        assert may_end.wait(60)
        return forward(*inputs)

    with ThreadPoolExecutor(4) as threads:
        with monkeypatch.context() as patched:
            patched.setattr(encoder, "_forward", held)
            running = [threads.submit(encoder.launch, batch) for _ in range(4)]
            assert all(computing.acquire(timeout=60) for _ in running)
        encoder.launch(batch)()
        may_end.set()
        for each in running:
            each.result(60)()
    assert told.tokens == []
    encoder.launch(batch)()
    assert told.tokens == [sum(text.n_tokens for text in batch)]
    encoder.close()


class _Rotating(torch.nn.Module):
    def __init__(self, kind: object) -> None:
        super().__init__()
        self.rotary = torch.nn.Module()
        self.rotary.rope_type = kind  # type: ignore[assignment]  # as transformers' own modules have it


@pytest.mark.parametrize(
    ("kind", "launches"),
    [
        ("default", 4),
        ("yarn", 4),
        ("dynamic", 1),
        ("longrope", 1),
        ({"full_attention": "default", "sliding_attention": "longrope"}, 1),
        ({"full_attention": "default"}, 4),
        (None, 4),
    ],
)
def test_a_model_that_writes_into_itself_while_it_runs_is_not_shared(kind: object, launches: int) -> None:
    assert launches_at_once([_Rotating(kind)], torch.device("cpu"), packed=True) == launches


def test_accelerators_and_padded_passes_launch_one_by_one() -> None:
    model = torch.nn.Module()
    assert launches_at_once([model], torch.device("mps"), packed=True) == 1
    assert launches_at_once([model], torch.device("cpu"), packed=False) == 1
    torch.set_num_threads(64)
    assert launches_at_once([model], torch.device("cpu"), packed=True) == 8


def test_code_that_a_model_brings_along_is_not_shared() -> None:
    kind = type("OtherModel", (torch.nn.Module,), {"__module__": "transformers_modules.acme.modeling_other"})
    whole = torch.nn.Sequential(torch.nn.Linear(2, 2), kind())
    assert launches_at_once([whole], torch.device("cpu"), packed=True) == 1
    assert launches_at_once([torch.nn.Linear(2, 2), whole], torch.device("cpu"), packed=True) == 1


@pytest.mark.parametrize(
    ("cores", "launches"), [(1, 1), (2, 2), (7, 7), (8, 8), (10, 5), (12, 6), (15, 5), (16, 8), (17, 8), (48, 8)]
)
def test_as_few_cores_as_possible_are_left_over(cores: int, launches: int) -> None:
    torch.set_num_threads(cores)
    assert launches_at_once([torch.nn.Module()], torch.device("cpu"), packed=True) == launches


def test_a_model_that_is_opened_while_another_computes_has_all_cores_too() -> None:
    def opened() -> tuple[int, int]:
        return torch_threads(), launches_at_once([torch.nn.Module()], torch.device("cpu"), packed=True)

    # A thread that torch has not seen yet.
    with Cores(4).share(), ThreadPoolExecutor(1) as threads:
        assert threads.submit(opened).result(60) == (4, 4)


def test_torch_has_its_threads_back_when_the_last_of_several_models_is_done() -> None:
    one, other = Cores(4), Cores(4)
    with ThreadPoolExecutor(1) as fresh:
        with one.share():
            with other.share():
                pass
            assert torch.get_num_threads() == 1
        assert fresh.submit(torch.get_num_threads).result(60) == 4
