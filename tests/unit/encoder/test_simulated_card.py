"""A card that is a clock: batches one after the other at its rate, launches as a card's, vectors by text."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.encoder.base import Pending
from gristmill_worker.encoder.open import card_rate, open_encoder, open_reader
from gristmill_worker.encoder.simulated_card import SimulatedCard


@pytest.fixture(scope="module")
def card() -> Iterator[SimulatedCard]:
    threads = torch.get_num_threads()
    encoder = open_encoder("card:2000")
    assert isinstance(encoder, SimulatedCard)
    yield encoder
    torch.set_num_threads(threads)


def test_batches_take_their_tokens_time_one_after_the_other(card: SimulatedCard) -> None:
    batch = card.tokenize(["a few words that are read as some tokens " * 10])
    began = time.perf_counter()
    first, second = card.launch(batch), card.launch(batch)
    assert isinstance(first, Pending)
    vectors = second()
    assert time.perf_counter() - began >= 2 * batch[0].n_tokens / 2000
    np.testing.assert_array_equal(first(), vectors)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_a_batcher_tells_how_long_it_took_to_launch(card: SimulatedCard) -> None:
    batcher = Batcher(card)
    try:
        assert batcher.launch_ms is None
        batcher.submit(card.tokenize(["one", "two"])).result()
        assert batcher.launch_ms is not None
        assert 0 < batcher.launch_ms["median"] <= batcher.launch_ms["p95"]
    finally:
        batcher.close()


def test_where_a_launch_computes_nothing_is_said_of_how_long_it_took() -> None:
    encoder = open_encoder("hash:8")
    batcher = Batcher(encoder)
    try:
        batcher.submit(encoder.tokenize(["one", "two"])).result()
        assert batcher.launch_ms is None
    finally:
        batcher.close()


def test_a_reader_counts_as_the_card_does(card: SimulatedCard) -> None:
    reader = open_reader("card:2000", digest=card.info.digest)
    assert reader.tokenize(["one text"])[0].n_tokens == card.tokenize(["one text"])[0].n_tokens


@pytest.mark.parametrize("name", ["card:", "card:0", "card:fast", "card:-1"])
def test_a_card_without_a_rate_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"card:TOKENS_PER_S"):
        card_rate(name)
