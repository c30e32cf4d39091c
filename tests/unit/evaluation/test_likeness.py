"""Labelled texts and pairs: what is read, and that the figures are those of the definitions."""

from __future__ import annotations

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gristmill import InvalidInput
from gristmill.evaluation.likeness.clusters import cluster_texts
from gristmill.evaluation.likeness.pairs import best_threshold, judge_pairs
from gristmill.evaluation.likeness.texts import LabelledText, Pair, read_pairs, read_texts

Vectors = npt.NDArray[np.float64]
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="comes with the extra `eval`")


def written(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in records), encoding="utf-8")
    return path


def test_the_sets_that_ship_are_as_large_and_as_varied_as_they_say() -> None:
    legal, pairs = read_texts("legal"), read_pairs("pairs")
    assert sorted(Counter(each.label for each in legal).values()) == [22] * 5
    assert len({each.text for each in legal}) == 110
    assert (len(pairs), sum(each.same for each in pairs)) == (110, 56)
    assert len({(each.a, each.b) for each in pairs}) == 110
    assert set(Counter(each.kind for each in pairs)) == {"reworded", "rearranged", "shared words", "another sense"}
    shared = {same: np.mean([_shared(each) for each in pairs if each.same is same]) for same in (True, False)}
    assert shared[True] < shared[False], "whoever counts words goes astray"


def _shared(pair: Pair) -> float:
    return len(set(pair.a) & set(pair.b)) / len(set(pair.a) | set(pair.b))


@needs_sklearn
def test_groups_are_measured_by_the_definitions() -> None:
    """Two groups of 4 and 2: one text of the second class lies in the first group."""
    labels = ["合同", "合同", "合同", "家庭", "家庭", "家庭"]
    rows = np.array([[1, 0], [1, 0.01], [1, 0.02], [1, 0.03], [0, 1], [0, 5]])
    found = cluster_texts([LabelledText(str(n), label) for n, label in enumerate(labels)], rows)
    assert [(group.size, group.label, group.share) for group in found.groups] == [(4, "合同", 0.75), (2, "家庭", 1)]
    assert [group.counts for group in found.groups] == [(3, 1), (0, 2)]
    assert [text.text for text, _ in found.strays] == ["3"]
    figures = {name: round(each.value, 4) for name, each in found.figures.items()}
    assert (figures["purity"], figures["consistency"]) == (round(5 / 6, 4), 0.875)
    assert figures["adjusted_rand"] == 0.3243
    both = figures["homogeneity"], figures["completeness"]
    assert figures["v_measure"] == pytest.approx(2 * both[0] * both[1] / sum(both), abs=1e-3)
    assert all(each.low <= each.value <= each.high <= 1 for each in found.figures.values())
    assert cluster_texts(found.texts, rows).figures == found.figures, "seeded"


@needs_sklearn
def test_figures_are_scikit_learns() -> None:
    from sklearn import metrics

    random = np.random.default_rng(5)
    labels, rows = random.integers(0, 4, 60), random.normal(size=(60, 3))
    found = cluster_texts([LabelledText(str(n), str(label)) for n, label in enumerate(labels)], rows, 3)
    theirs = metrics.homogeneity_completeness_v_measure(labels, found.places)
    mine = [found.figures[name].value for name in ("homogeneity", "completeness", "v_measure", "adjusted_rand")]
    assert mine == pytest.approx([*theirs, metrics.adjusted_rand_score(labels, found.places)])


@pytest.mark.parametrize(
    ("scores", "same", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [False, False, True, True], 0.5),
        ([0.5, 0.5, 0.5], [True, True, False], 0.5),
        ([0.2, 0.4, 0.6, 0.8], [False, True, False, True], 0.3),
    ],
)
def test_a_threshold_lies_where_most_pairs_are_right(scores: list[float], same: list[bool], expected: float) -> None:
    found = best_threshold(np.array(scores), np.array(same))
    right = sum((score >= found) is truth for score, truth in zip(scores, same, strict=True))
    tried = [sum((s >= at) is t for s, t in zip(scores, same, strict=True)) for at in (*scores, 0.3, 0.5, 0.7, 1.1)]
    assert right == max(tried)
    if len(set(scores)) == 4 and expected == 0.5:
        assert found == pytest.approx(0.5)


def planted(cosines: list[float]) -> tuple[Vectors, Vectors]:
    angles = np.arccos(np.array(cosines))
    a = np.tile([1.0, 0.0], (len(cosines), 1))
    return a, np.stack([np.cos(angles), np.sin(angles)], axis=1)


@needs_sklearn
def test_accuracy_is_of_pairs_that_the_threshold_has_not_seen() -> None:
    """Cosines without any sense: a threshold chosen on the same pairs would still look better than chance."""
    random = np.random.default_rng(3)
    cosines = random.uniform(0.1, 0.9, 60).tolist()
    pairs = [Pair(str(n), str(n), bool(same)) for n, same in enumerate(random.integers(0, 2, 60))]
    found = judge_pairs(pairs, *planted(cosines))
    on_the_same = np.mean([(c >= found.threshold) is p.same for c, p in zip(cosines, pairs, strict=True)])
    assert found.accuracy.value < on_the_same
    assert found.auc.low < 0.5 < found.auc.high


@needs_sklearn
def test_pairs_that_are_told_apart_are_all_right_and_mistakes_are_named() -> None:
    pairs = [Pair(f"a{n}", f"b{n}", n < 10, "reworded" if n < 10 else "shared words") for n in range(20)]
    cosines = [0.9] * 9 + [0.15] + [0.2] * 10
    found = judge_pairs(pairs, *planted(cosines))
    assert found.threshold == pytest.approx(0.55)
    assert (found.accuracy.value, found.auc.value) == (0.95, 0.9)
    assert [(each.pair.a, round(each.cosine, 2)) for each in found.wrong] == [("a9", 0.15)]
    assert found.kinds == {"reworded": (10, 0.9), "shared words": (10, 1.0)}


TEXT, PAIR = {"text": "t", "label": "x"}, {"a": "a", "b": "b", "same": True}


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([TEXT], "label: expected texts of at least two classes"),
        ([], "got 0 texts of none"),
        ([TEXT, {"text": "t"}], ":2: label: expected it, got a record without it"),
        ([{"text": "t", "category": "x"}], "category: expected text, label, got another field; did you mean 'label'?"),
        ([{"text": " ", "label": "x"}], ":1: text: expected text, got an empty or blank string"),
        ([{"text": "t", "label": None}], ":1: label: "),
        ([["t"]], ":1: JSON: expected an object per line"),
    ],
)
def test_texts_that_cannot_be_used_are_named(tmp_path: Path, records: list[Any], told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_texts(written(tmp_path / "texts.jsonl", *records))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([PAIR, PAIR], "expected at least two pairs that say the same and two that do not"),
        ([{**PAIR, "same": "yes"}], ":1: same: expected True or False, got 'yes'"),
        ([{**PAIR, "sentence1": "a"}], "sentence1: expected a, b, same, kind, got another field; did you mean 'a'?"),
    ],
)
def test_pairs_that_cannot_be_used_are_named(tmp_path: Path, records: list[Any], told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_pairs(written(tmp_path / "pairs.jsonl", *records))
    assert told in str(refused.value)


def test_a_file_that_is_not_there_and_too_many_groups_are_said() -> None:
    with pytest.raises(InvalidInput, match="expected a JSONL file, or 'legal', which ships; there is no 'leagl'"):
        read_texts("leagl")
    texts = [LabelledText("a", "x"), LabelledText("b", "y")]
    with pytest.raises(InvalidInput, match="k: expected at most the 2 texts"):
        cluster_texts(texts, np.eye(2), 3)
    with pytest.raises(InvalidInput, match="vectors: expected one for each of 2 texts"):
        cluster_texts(texts, np.eye(3))
