"""What a recorded pass reads: the texts that were asked for, and one more that fills it."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gristmill_worker.encoder.local.replay import laid_out

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
