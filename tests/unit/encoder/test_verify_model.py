"""`gristmill verify-model` on tiny models: what applies passes, what is spoiled fails, what does not apply says why."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gristmill.cli.root import main
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.model.known_checks import KNOWN_MODELS, KnownModel, run_check
from gristmill_worker.verify.pairs import Pair, read_pairs
from gristmill_worker.verify.rows import Verdict
from gristmill_worker.verify.run import Expectations, Report, verify
from models import tiny_qwen3

pytestmark = pytest.mark.slow

ALL = [
    "published scores", "example pairs, English", "example pairs, Chinese", "lenses", "start-up", "memory", "parity",
    "sentence-transformers",
]  # fmt: skip
#: Random weights find only what is asked for by its own words; and no test depends on speed, or on what runs beside it.
LENIENT = Expectations(found_first=0.0, startup_s=1e9, memory_gb=1e9)


def verdicts(report: Report) -> dict[str, Verdict]:
    return {row.check: row.verdict for row in report.checks}


@pytest.fixture(scope="module")
def published(qwen3: Path) -> KnownModel:
    """The example of the card with the scores that the tiny model has."""
    encoder = open_encoder(str(qwen3), device="cpu", dtype="float32", budget_tokens=256)
    return replace(KNOWN_MODELS[0], scores=run_check(encoder, KNOWN_MODELS[0]).got)


def test_every_check_applies_to_a_model_with_instructions_and_passes(qwen3: Path, published: KnownModel) -> None:
    report = verify(str(qwen3), device="cpu", dtype="float32", expected=replace(LENIENT, known=published))
    assert verdicts(report) == dict.fromkeys(ALL, Verdict.PASS)
    assert report.ok


def test_bfloat16_is_compared_with_sentence_transformers_in_float32(qwen3: Path) -> None:
    report = verify(str(qwen3), device="cpu", dtype="bfloat16", expected=LENIENT)
    rows = {row.check: row for row in report.checks}
    assert rows["parity"].verdict == rows["sentence-transformers"].verdict == Verdict.PASS
    assert rows["parity"].expected == "at most 0.01 cosine distance"


def test_scores_other_than_the_published_ones_fail(qwen3: Path, published: KnownModel) -> None:
    spoiled = replace(published, scores=((0.9, 0.9), (-0.9, -0.9)))
    report = verify(str(qwen3), device="cpu", dtype="float32", expected=replace(LENIENT, known=spoiled))
    assert [check for check, verdict in verdicts(report).items() if verdict is Verdict.FAIL] == ["published scores"]
    assert not report.ok


def test_a_folder_of_any_name_is_held_to_the_scores_of_the_model_that_its_card_names(tmp_path: Path) -> None:
    folder = tiny_qwen3(tmp_path / "downloaded")
    (folder / "README.md").write_text("# Qwen3-Embedding-0.6B\n", encoding="utf-8")
    report = verify(str(folder), device="cpu", dtype="float32", expected=LENIENT)
    assert report.checks[0].verdict is Verdict.FAIL
    assert "NOT as published" in report.checks[0].why


def test_a_passage_that_is_not_found_first_is_named(model_root: Path) -> None:
    pairs = [Pair("en", "mill", "mill"), Pair("en", "river", "mill"), Pair("zh", "退款", "退款")]
    expected = replace(LENIENT, pairs=pairs, found_first=0.8)
    report = verify(str(model_root / "xlm-roberta"), device="cpu", dtype="float32", expected=expected)
    rows = {row.check: row for row in report.checks}
    assert (rows["example pairs, English"].value, rows["example pairs, English"].verdict) == (0.5, Verdict.FAIL)
    assert "missed: river" in rows["example pairs, English"].why
    assert rows["example pairs, Chinese"].verdict is Verdict.PASS


def test_the_shipped_pairs_are_ten_of_each_language_and_all_different() -> None:
    pairs = read_pairs()
    assert [pair.language for pair in pairs] == ["en"] * 10 + ["zh"] * 10
    assert len({pair.question for pair in pairs}) == len({pair.passage for pair in pairs}) == 20


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *line: str) -> tuple[object, str]:
    """Exit code and stdout of `gristmill verify-model`."""
    monkeypatch.setattr(sys, "argv", ["gristmill", "verify-model", *line])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().out


def test_what_does_not_apply_says_why_and_does_not_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = told(capsys, monkeypatch, "hash:64", "--max-startup-s=1000", "--max-memory-gb=1000", "--json")
    report = json.loads(out)
    assert (code, report["ok"]) == (0, True)
    left_out = [row for row in report["checks"] if row["verdict"] == "not applicable"]
    assert len(left_out) == 5
    assert all(row["why"] and row["value"] is None for row in left_out)


def test_a_bound_that_is_not_kept_is_exit_code_1_and_a_row_of_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = told(capsys, monkeypatch, "hash:64", "--max-startup-s=1000", "--max-memory-gb=0")
    (row,) = (line for line in out.splitlines() if line.startswith("memory"))
    assert (code, "at most 0 GB" in row, "fail" in row) == (1, True, True)


def test_a_model_that_is_not_there_and_an_unknown_language_are_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out = told(capsys, monkeypatch, str(tmp_path / "nowhere"), "--json")
    assert json.loads(out)["error"] == "ModelUnavailable"
    assert code != 0
    code, out = told(capsys, monkeypatch, "hash:64", "--language=fr", "--json")
    assert "language: expected en or zh, got 'fr'" in json.loads(out)["message"]
    assert code == 2
