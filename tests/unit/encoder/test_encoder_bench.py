"""The encoder benchmark on a tiny model: its keys are fixed, its numbers make sense."""

import gc
from pathlib import Path
from weakref import ref

import pytest
import torch

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.bench.corpus import mixed_texts, read_texts
from gristmill_worker.bench.encoder_bench import run_encoder_bench
from gristmill_worker.bench.peer import sentence_transformers_peer
from gristmill_worker.encoder.local import random_model
from gristmill_worker.encoder.local.load import load

pytestmark = pytest.mark.slow
KEYS = [
    "model", "device", "dtype", "texts", "tokens", "tokens_per_s", "texts_per_s", "budget_tokens", "padding_fraction",
    "useful_gflops", "gemm_gflops", "ceiling_fraction", "startup_s", "peer_tokens_per_s", "ratio_to_peer",
    "max_cosine_error", "idle",
]  # fmt: skip


def test_the_report_has_exactly_the_fixed_keys(qwen3: Path) -> None:
    report = run_encoder_bench(
        str(qwen3), device="cpu", dtype="float32", texts=["a", "b c", "d " * 40], peer=True, budget_tokens=64, rounds=1
    )
    assert list(report) == KEYS
    assert report["idle"].keys() == {"no_work", "tokens", "store"}
    assert (report["texts"], report["budget_tokens"], report["padding_fraction"]) == (3, 64, 0.0)
    assert report["max_cosine_error"] <= 1e-5
    assert 0 < report["useful_gflops"] < report["gemm_gflops"]
    assert report["peer_tokens_per_s"] > 0


def test_without_a_peer_its_keys_are_null(qwen3: Path) -> None:
    report = run_encoder_bench(str(qwen3), device="cpu", texts=["a"], budget_tokens=64, rounds=1)
    assert (report["peer_tokens_per_s"], report["ratio_to_peer"]) == (None, None)


def test_built_in_texts_are_mixed_and_always_the_same() -> None:
    texts = mixed_texts(400, lambda text: len(text.split()))
    lengths = sorted(len(text.split()) for text in texts)
    assert texts == mixed_texts(400, lambda text: len(text.split()))
    assert 40 < lengths[200] < 70
    assert lengths[-1] <= 1_024


def test_texts_come_from_lines_or_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n二\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n{"text": "二"}\n', encoding="utf-8")
    assert read_texts(tmp_path / "a.txt") == read_texts(tmp_path / "b.jsonl") == ["one", "二"]


def test_a_file_without_texts_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    for name in ("a.txt", "missing.txt"):
        with pytest.raises(InvalidInput, match=name):
            read_texts(tmp_path / name)


def test_the_untouched_model_is_let_go_while_the_peer_is_asked(qwen3: Path) -> None:
    """On a card its weights, in float32, would count as memory of ours."""
    plain = load(str(qwen3), device="cpu", dtype="float32")
    weights = ref(plain.model)
    with sentence_transformers_peer(plain, str(qwen3), "float32") as peer:
        del plain
        gc.collect()
        assert weights() is None
        assert peer(["a"]).shape == (1, 64)


def test_random_weights_are_the_same_in_every_number_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench gpu` measures the error of bfloat16 against them in float32, and both have one digest."""
    # No weight's size is a multiple of 16, by which torch draws where it draws fast.
    shape = {"vocab_size": 17, "hidden_size": 20, "intermediate_size": 30, "num_attention_heads": 3, "head_dim": 2}
    for key, value in {**shape, "num_key_value_heads": 1}.items():
        monkeypatch.setitem(random_model.QWEN3_06B, key, value)
    plain, *others = (
        random_model.build_model(1, torch.device("cpu"), dtype).state_dict()
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    )
    for weights in others:
        assert all(torch.equal(weight, plain[name].to(weight.dtype)) for name, weight in weights.items())
