"""Rows into groups: what a group promises, and that nothing of it hangs on blocks, order or chance."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest

from gristmill.search.clustering.partition import nearest_centres, within_reach

Matrix = npt.NDArray[np.float32]
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="comes with the extra `eval`")


def on_a_circle(*degrees: float) -> Matrix:
    angles = np.deg2rad(np.array(degrees, np.float32))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def around(centres: int, each: int, spread: float, dimensions: int = 32) -> Matrix:
    random = np.random.default_rng(7)
    middles = np.repeat(random.normal(size=(centres, dimensions)), each, axis=0)
    rows = middles + spread * random.normal(size=middles.shape)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / lengths, np.float32)


def test_a_chain_of_small_steps_is_not_one_group() -> None:
    chain = on_a_circle(*range(0, 180, 10))
    labels = within_reach(chain, float(np.cos(np.deg2rad(10.1))))
    assert labels.max() > 3
    for group in range(labels.max() + 1):
        rows = chain[labels == group]
        assert (rows @ rows.T).max(axis=1).min() >= 0.98
        assert (rows @ rows.T).min() >= np.cos(np.deg2rad(20.3)), "all of them are near to one of them"


def test_rows_that_nothing_is_like_are_in_no_group_and_equal_rows_are_in_one() -> None:
    rows = np.concatenate([on_a_circle(0, 0, 90, 200), np.zeros((1, 2), np.float32)])
    assert within_reach(rows, 1.0).tolist() == [0, 0, -1, -1, -1]


@pytest.mark.parametrize("block", [1, 7, 256])
def test_groups_hang_on_no_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    rows = around(12, 25, 0.5)
    expected = within_reach(rows, 0.6)
    monkeypatch.setattr("gristmill.search.clustering.partition._BLOCK", block)
    monkeypatch.setattr("gristmill.search.clustering.partition._TILE", 3 * block)
    done: list[int] = []
    assert (within_reach(rows, 0.6, done.append) == expected).all()
    assert done[-1] == len(rows)


@needs_sklearn
def test_kmeans_finds_what_was_planted_and_the_same_again() -> None:
    rows = around(5, 40, 0.1)
    labels = nearest_centres(rows, 5)
    assert [len(set(labels[start : start + 40])) for start in range(0, 200, 40)] == [1] * 5
    assert len(set(labels)) == 5
    assert (nearest_centres(rows, 5) == labels).all()


@needs_sklearn
def test_samples_of_many_rows_give_the_groups_that_all_of_them_would(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = around(5, 40, 0.1)
    monkeypatch.setattr("gristmill.search.clustering.partition._WHOLE_ROWS", 100)
    labels = nearest_centres(rows, 5)
    assert [len(set(labels[start : start + 40])) for start in range(0, 200, 40)] == [1] * 5
    assert len(set(labels)) == 5


@needs_sklearn
def test_fewer_different_rows_than_groups_give_fewer_groups() -> None:
    assert sorted(set(nearest_centres(on_a_circle(0, 0, 0, 90, 90), 4).tolist())) == [0, 1]
