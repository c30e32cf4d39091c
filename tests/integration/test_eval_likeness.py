"""`gristmill eval cluster` and `gristmill eval pairs`, from a file to figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

SHARES = ("accuracy", "auc", "purity", "v_measure", "homogeneity", "completeness", "adjusted_rand", "consistency")


def test_labelled_texts_are_grouped_and_measured(run: Run, tmp_path: Path) -> None:
    """By a stand-in encoder equal texts are alike and no others: three texts, ten times each."""
    file = tmp_path / "texts.jsonl"
    lines = [{"text": f"同一句话{n % 3}", "label": f"类{n % 3}"} for n in range(30)]
    file.write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = run("eval", "cluster", str(file), "--model", "hash:32", "--json")
    told = json.loads(out)
    assert (code, told["texts"], told["classes"]) == (0, 30, 3)
    assert {told[name] for name in SHARES if name in told} == {1.0}
    assert {each["consistency"] for each in told["clusters"]} == {1.0}
    assert sorted(told["confusion"]["类0"]) == [0, 0, 10]
    assert told["configuration"] == {"model": "hash:32", "kind": "query", "dimensions": 32}
    code, out, _ = run("eval", "cluster", str(file), "--model", "hash:32", "-k", "2")
    assert (code, "purity" in out, "类1" in out) == (0, True, True)
    code, _, err = run("eval", "cluster", str(file), "--model", "hash:32", "-k", "31")
    assert (code, "k: expected at most the 30 texts" in err) == (2, True)


def test_pairs_are_told_apart_and_mistakes_are_shown(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    lines = [{"a": f"句{n}", "b": f"句{n}" if n < 9 else "别的", "same": n < 10, "kind": "k"} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = run("eval", "pairs", str(file), "--model", "hash:32", "--json")
    told = json.loads(out)
    assert (code, told["pairs"], told["same"]) == (0, 20, 10)
    assert told["accuracy_low"] < told["accuracy"] == 0.95 < told["accuracy_high"]
    assert told["threshold_low"] <= told["threshold"] <= told["threshold_high"]
    assert [each["a"] for each in told["wrong"]] == ["句9"]
    code, out, err = run("eval", "pairs", str(file), "--model", "hash:32")
    assert (code, "threshold" in out, "not the same" in err, "句9 · 别的" in err) == (0, True, False, True)
    code, _, err = run("eval", "pairs", str(file), "--model", "hash:32", "--kind", "passage")
    assert (code, "kind: expected 'query' or 'document'" in err) == (2, True)


@pytest.mark.usefixtures("embedded")
def test_a_served_model_is_asked(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}')
    code, out, _ = run("eval", "cluster", str(file), "--served", "--json")
    assert (code, json.loads(out)["configuration"]["model"]) == (0, "hash:64")
