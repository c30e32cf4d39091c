"""What a recorded pass reads: the texts that were asked for, and one more that fills it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gristmill_worker.encoder.local import parity
from gristmill_worker.encoder.local.layout import Layout
from gristmill_worker.encoder.local.load import load
from gristmill_worker.encoder.local.replay import SIZES, ReplayedForward, laid_out

TOKENS, TEXTS = 64, 8


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=TEXTS).filter(lambda each: sum(each) <= TOKENS), st.integers(0, 2)
)
def test_borders_ids_and_positions_are_those_of_the_texts(lengths: list[int], first: int) -> None:
    texts = [np.full(length, number + 1, dtype=np.int32) for number, length in enumerate(lengths)]
    row = laid_out(texts, TOKENS, TEXTS, first)
    ids, where, borders = np.split(row, [TOKENS, 2 * TOKENS])
    assert len(borders) == TEXTS + 2
    for text, (start, stop) in zip(texts, pairwise(borders), strict=False):
        assert ids[start:stop].tolist() == text.tolist()
        assert where[start:stop].tolist() == list(range(first, first + len(text)))
    used = borders[len(texts)]
    assert not ids[used:].any()
    assert set(where[used:].tolist()) <= {first}
    assert borders[0] == 0
    assert borders[-1] == TOKENS
    assert (np.diff(borders) >= 0).all()


class Card:
    """A card's streams and graphs, as far as they are told apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream: Any = "default"
        self.recorded: list[Any] = []
        self.replayed: list[Any] = []
        fakes = {
            "Stream": lambda device, priority=0: SimpleNamespace(priority=priority, wait_stream=lambda _: None),
            "current_stream": lambda device: SimpleNamespace(wait_stream=lambda _: None),
            "graph_pool_handle": lambda: "pool",
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.replayed.append(self.stream)),
            "stream": self.entered,
            "graph": self.graph,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        #: Pools that the allocator takes for those of recordings that go on.
        self.recording: set[str] = set()
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end, raising=False)

    @contextmanager
    def entered(self, stream: Any) -> Iterator[None]:
        self.stream, before = stream, self.stream
        try:
            yield
        finally:
            self.stream = before

    @contextmanager
    def graph(self, graph: Any, *, stream: Any, pool: str, **_: Any) -> Iterator[None]:
        self.recorded.append(stream)
        self.stream, before = stream, self.stream
        self.recording.add(pool)
        # As torch's up to 2.12: after an error its own end fails first.
        yield
        self.recording.remove(pool)
        self.stream = before

    def end(self, device: int | None, pool: str) -> None:
        if pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)


class Pass:
    first_position = 0

    def states(self, ids: torch.Tensor, where: torch.Tensor, layout: Layout) -> torch.Tensor:
        return torch.zeros(len(ids), 4)

    def pooled(self, states: torch.Tensor, offsets: torch.Tensor, prompts: Any) -> torch.Tensor:
        return states[:1]


def test_passes_are_recorded_in_the_stream_that_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Recorded kernels have the priority of the stream that they were recorded in, whichever they are replayed in.
    card = Card(monkeypatch)
    replayed = ReplayedForward(Pass(), torch.device("cpu"))  # type: ignore[arg-type]
    texts = [np.ones(3, dtype=np.int32)]
    with replayed.beside(texts):
        replayed(texts)
    (queries,) = card.replayed
    assert queries.priority < 0
    assert card.recorded == [queries] * len(SIZES)


@pytest.mark.parametrize("mended", [False, True], ids=["torch to 2.12", "later"])
def test_a_recording_that_fails_leaves_its_thread_and_the_allocator_as_they_were(
    monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    class Asking(Pass):
        def states(self, ids: torch.Tensor, where: torch.Tensor, layout: Layout) -> torch.Tensor:
            if card.recorded:
                if mended:
                    card.recording.clear()
                raise RuntimeError("operation not permitted when stream is capturing")
            return super().states(ids, where, layout)

    card = Card(monkeypatch)
    with pytest.raises(RuntimeError, match="not permitted"):
        ReplayedForward(Asking(), torch.device("cpu"))  # type: ignore[arg-type]
    assert card.stream == "default"
    assert not card.recording, "the allocator keeps all memory for a recording that has failed"


@pytest.mark.parametrize(("rotation", "recorded"), [("default", True), ("yarn", True), ("dynamic", False)])
def test_a_model_that_writes_into_itself_while_it_runs_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, model_root: Path, rotation: str, recorded: bool
) -> None:
    loaded = load(str(model_root / "qwen3"), device="cpu", dtype="float32")
    loaded.model.rotary_emb.rope_type = rotation
    replayed = SimpleNamespace()
    monkeypatch.setattr(parity, "ReplayedForward", lambda forward, device: replayed)
    monkeypatch.setattr(parity, "check", lambda *_: None)
    packed: Any = Pass()
    found = parity._replayed(replace(loaded, device=torch.device("cuda")), packed, [], torch.zeros(1))
    assert found is (replayed if recorded else packed)
