"""Figures of rankings that are known, their intervals, and what is said of two rankings."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gristmill import InvalidInput
from gristmill.evaluation.configurations import Configuration
from gristmill.evaluation.gates import parse_floors
from gristmill.evaluation.intervals import adjusted, difference, interval
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.retrieval import compare, evaluated
from gristmill.evaluation.trec import write_run

ir_measures: Any = pytest.importorskip("ir_measures")

IDS = tuple(f"d{n}" for n in range(50))


def asked(*expected: str) -> list[Question]:
    return [Question(f"question {n}", {each: 1}, f"q{n}") for n, each in enumerate(expected)]


def test_the_figures_are_those_of_the_definitions() -> None:
    """Ranks 1, 3, 20 and none: MRR looks beyond the tenth, and equal ids of other orders do not matter."""
    found = evaluated(asked("d0", "d2", "d19", "x"), [IDS] * 4)
    assert found.ranks == [1, 3, 20, None]
    figures = {name: each.value for name, each in found.figures.items()}
    assert figures == pytest.approx(
        {
            "top1": 1 / 4,
            "recall_at_3": 2 / 4,
            "recall_at_10": 2 / 4,
            "mrr": (1 + 1 / 3 + 1 / 20) / 4,
            "ndcg_at_10": (1 + 1 / log2(4)) / 4,
        }
    )


def test_recall_is_the_share_of_questions_and_not_of_right_documents() -> None:
    question = Question("q", {"d0": 1, "d40": 1, "d41": 1}, "q0")
    assert evaluated([question], [IDS]).figures["recall_at_3"].value == 1


def test_a_share_has_wilsons_interval_which_is_no_point_where_all_are_right() -> None:
    found = interval("top1", np.array([1.0] * 15 + [0.0] * 25))
    assert (found.value, found.low, found.high) == pytest.approx((0.375, 0.2422, 0.5297), abs=1e-4)
    sure = interval("mrr", np.ones(10))
    assert (sure.value, sure.high) == (1, 1)
    assert 0.6 < sure.low < 0.8


def test_a_mean_has_an_interval_that_is_the_same_at_every_run() -> None:
    values = np.random.default_rng(7).random(60)
    first = interval("mrr", values)
    assert first == interval("mrr", values)
    assert first.low < first.value < first.high


def test_a_clear_difference_is_told_from_none() -> None:
    clear, none = np.full(20, 0.5), np.array([0.1, -0.1] * 10)
    assert difference(clear, np.zeros(20)).p_value < 0.001
    assert difference(none, np.zeros(20)).p_value > 0.9
    same = difference(clear, clear)
    assert (same.value, same.p_value) == (0, 1)


def test_p_values_of_several_tests_are_adjusted_by_holm() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])


def test_a_comparison_names_the_questions_won_and_lost() -> None:
    questions = asked("d0", "d1", "d2", "d3")
    better = evaluated(questions, [("d0", "x"), ("d1", "x"), ("x", "y", "d2"), ("d3",)])
    worse = evaluated(questions, [("x", "d0"), ("x",), ("d2",), ("d3",)])
    found = compare(better, worse)
    assert [(each.question.id, each.rank, each.against) for each in found.won] == [("q1", 1, None), ("q0", 1, 2)]
    assert [(each.question.id, each.rank, each.against) for each in found.lost] == [("q2", 3, 1)]
    assert found.tied == 1
    assert found.differences["mrr"].value == pytest.approx((1 + 0.5 - 2 / 3) / 4)
    with pytest.raises(InvalidInput, match="the same questions"):
        compare(better, evaluated(asked("d0") + questions[2:], [IDS] * 3))


def test_a_run_file_is_what_trec_eval_reads_and_gives_the_same_figures(tmp_path: Path) -> None:

    found = evaluated(asked("d0", "d2", "d19"), [IDS] * 3)
    write_run(found, tmp_path / "run.txt")
    run = ir_measures.read_trec_run(str(tmp_path / "run.txt"))
    qrels = [ir_measures.Qrel(each.id, right, 1) for each in found.questions for right in each.expected]
    assert ir_measures.calc_aggregate([ir_measures.RR], qrels, run)[ir_measures.RR] == pytest.approx(
        found.figures["mrr"].value
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mmr=0.8", "did you mean 'mrr'"),
        ("recall@5=0.8", "did you mean 'recall_at_"),
        ("mrr", "figure=value"),
        ("mrr=high", "a number from 0 to 1"),
        ("mrr=80", "a number from 0 to 1"),
        ("mrr=nan", "a number from 0 to 1"),
    ],
)
def test_a_floor_that_is_none_says_what_is(given: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        parse_floors([given])


def test_a_floor_is_of_a_figure_or_of_an_end_of_its_interval() -> None:
    found = evaluated(asked(*["d0"] * 10), [IDS] * 10)
    assert [each.passes_not(found) for each in parse_floors(["mrr=1", "recall@3=1", "top1_low=0.9"])] == [
        False,
        False,
        True,
    ]


def test_another_configuration_is_the_same_but_for_what_it_says() -> None:
    base = Configuration(collection="faq", instruction="preset:faq", mode="hybrid")
    assert base.changed("mode=dense").told() == {"collection": "faq", "instruction": "preset:faq"}
    assert base.changed("instruction=").told() == {"collection": "faq", "mode": "hybrid"}
    fused = Configuration(collection="faq", mode="hybrid", fusion="dbsf", lens="legal")
    assert fused.changed("mode=dense").told() == {"collection": "faq", "lens": "legal"}
    assert fused.changed("mode=keyword").told() == {"collection": "faq", "mode": "keyword"}
    assert fused.changed("rerank=true").fusion == "dbsf"
    assert base.changed('{"rerank": true, "rerank-top": 20}').told()["rerank_top"] == 20
    assert base.changed("instruction=a = b, c").instruction == "a = b, c"
    files = Configuration(documents="d.jsonl", model="demo")
    assert files.changed("model=hash:16").told() == {"documents": "d.jsonl", "model": "hash:16"}
    assert files.changed("collection=faq").told() == {"collection": "faq"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("hybrid", "key=value"),
        ("mod=hybrid", "did you mean 'mode'"),
        ("dimensions=many", "dimensions to be int"),
        ("dimensions=true", "dimensions to be int"),
        ('{"mode": 7}', "mode to be str"),
        ('{"mode"', "a JSON object"),
    ],
)
def test_a_wrong_configuration_is_named(change: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=rf"against: .*{told}"):
        Configuration(collection="faq").changed(change)
