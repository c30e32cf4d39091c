"""Memory that runs out, models that fail, and modules that come out different: what happens instead."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, InvalidInput
from gristmill_worker.batching.batcher import Batcher, encode_all
from gristmill_worker.batching.submission import stacked
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.local.budget.calibration import RANGES, calibrate
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.forward import Forward, Ids
from gristmill_worker.encoder.model.known_checks import KNOWN_MODELS, check_known_model, run_check

from .conftest import TEXTS


class Cramped:
    """A forward pass on a device with room for so many tokens; it raises what torch raises."""

    def __init__(self, inner: Forward, room: int, error: type[Exception], words: str = "") -> None:
        self.inner, self.room, self.error, self.words = inner, room, error, words
        self.padded = inner.padded
        self.passes: list[int] = []
        self.padded_passes: list[int] = []

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        tokens = sum(len(ids) for ids in texts)
        self.passes.append(tokens)
        self.padded_passes.append(len(texts) * max(len(ids) for ids in texts))
        if tokens > self.room:
            raise self.error(self.words)
        return self.inner(texts, prompts)


@pytest.fixture
def encoder(qwen3: Path) -> TransformersEncoder:
    opened = open_encoder(str(qwen3), device="cpu", dtype="float32", budget_tokens=10_000)
    assert isinstance(opened, TransformersEncoder)
    return opened


OUT_OF_MEMORY = [
    (torch.OutOfMemoryError, "CUDA out of memory"),
    (RuntimeError, "DefaultCPUAllocator: can't allocate memory"),
    (torch.AcceleratorError, "CUDA error: out of memory"),
    (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize(("error", "words"), OUT_OF_MEMORY)
def test_a_batch_that_does_not_fit_is_halved_and_so_is_the_budget(
    encoder: TransformersEncoder, error: type[Exception], words: str
) -> None:
    texts = encoder.tokenize(TEXTS * 4)
    expected = encode_all(encoder, texts)
    longest = max(item.n_tokens for item in texts)
    encoder._forward = cramped = Cramped(encoder._forward, 2 * longest, error, words)
    batcher = Batcher(encoder)
    try:
        rows = [stacked(batcher.submit(texts).result(timeout=60), 64) for _ in range(2)]
        assert batcher.budget_tokens < 10_000
    finally:
        batcher.close()
    np.testing.assert_allclose(rows, [expected, expected], atol=1e-6)
    failed = [tokens for tokens in cramped.passes if tokens > 2 * longest]
    assert len(failed) <= 7, "the second time nothing has to be found out again"


def test_a_launch_is_one_pass_and_says_itself_that_it_did_not_fit(encoder: TransformersEncoder) -> None:
    batch = encoder.tokenize(TEXTS)
    encoder._forward = cramped = Cramped(encoder._forward, 1, torch.OutOfMemoryError, "CUDA out of memory")
    with pytest.raises(AcceleratorOutOfMemory):
        encoder.encode(batch)
    assert cramped.passes == [sum(item.n_tokens for item in batch)]


def test_a_padded_model_is_planned_with_its_padding(model_root: Path) -> None:
    encoder = open_encoder(str(model_root / "bert"), device="cpu", dtype="float32", budget_tokens=200, packed=False)
    assert isinstance(encoder, TransformersEncoder)
    encoder._forward = cramped = Cramped(encoder._forward, 10**9, RuntimeError)
    encode_all(encoder, encoder.tokenize([text[:60] for text in TEXTS if text] * 3))
    assert max(cramped.padded_passes) <= 200


@pytest.mark.parametrize(("error", "words"), OUT_OF_MEMORY)
def test_one_text_that_does_not_fit_is_out_of_memory(
    encoder: TransformersEncoder, error: type[Exception], words: str
) -> None:
    encoder._forward = Cramped(encoder._forward, 1, error, words)
    with pytest.raises(AcceleratorOutOfMemory):
        encoder.encode(encoder.tokenize(["a long enough text"]))


def test_whatever_else_a_model_raises_is_a_failed_encoding(encoder: TransformersEncoder) -> None:
    encoder._forward = Cramped(encoder._forward, 0, IndexError, "index out of range")
    with pytest.raises(EncodingFailed, match="IndexError: index out of range") as caught:
        encoder.encode(encoder.tokenize(["a", "b"]))
    assert not isinstance(caught.value, AcceleratorOutOfMemory)


def test_insisting_on_packing_a_model_that_cannot_be_packed_says_why(
    model_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gristmill_worker.encoder.local import forward

    monkeypatch.setattr(forward, "positions", lambda lengths, first=0: np.arange(sum(lengths)))
    with pytest.raises(InvalidInput, match="cannot be packed: its vectors differ from one-by-one"):
        open_encoder(str(model_root / "bert"), device="cpu", dtype="float32", budget_tokens=64, packed=True)
    fallen_back = open_encoder(str(model_root / "bert"), device="cpu", dtype="float32", budget_tokens=64)
    assert isinstance(fallen_back, TransformersEncoder)
    assert not fallen_back.packed


def test_attention_that_leaks_between_texts_is_refused(model_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gristmill_worker.encoder.local.layout import Layout

    whole = Layout.of

    def leaky(lengths: Sequence[int], device: torch.device) -> Layout:
        right, one = whole(lengths, device), whole([sum(lengths)], device)
        return Layout(right.lengths, one.runs, right.offsets, one.longest)

    monkeypatch.setattr(Layout, "of", leaky)
    with pytest.raises(InvalidInput, match="cannot be packed"):
        open_encoder(str(model_root / "xlm-roberta"), device="cpu", dtype="float32", budget_tokens=64, packed=True)


def test_the_budget_is_the_smallest_that_is_as_good_as_the_best(encoder: TransformersEncoder) -> None:
    clock = Clock(encoder, seconds_per_batch=0.010, seconds_per_token=1e-5, slow_beyond=2_048)
    assert calibrate(encoder, "cpu", clock=clock).budget_tokens == 2_048


def test_calibration_stops_where_memory_ends(encoder: TransformersEncoder) -> None:
    encoder._forward = Cramped(encoder._forward, 1_100, torch.OutOfMemoryError)
    clock = Clock(encoder, seconds_per_batch=0.010, seconds_per_token=1e-5, slow_beyond=10**9)
    assert calibrate(encoder, "cpu", clock=clock).budget_tokens == 1_024


def test_where_nothing_fits_the_budget_starts_below_the_smallest(encoder: TransformersEncoder) -> None:
    encoder._forward = Cramped(encoder._forward, 10, torch.OutOfMemoryError)
    assert calibrate(encoder, "cpu").budget_tokens == RANGES["cpu"][0] // 2


def test_padded_batches_are_measured_within_the_budget_too(model_root: Path) -> None:
    encoder = open_encoder(str(model_root / "bert"), device="cpu", dtype="float32", budget_tokens=200, packed=False)
    assert isinstance(encoder, TransformersEncoder)
    encoder._forward = cramped = Cramped(encoder._forward, 10**9, RuntimeError)
    clock = Clock(encoder, seconds_per_batch=0.010, seconds_per_token=1e-5, slow_beyond=600)
    budget = calibrate(encoder, "cpu", clock=clock).budget_tokens
    assert max(cramped.padded_passes) <= 4 * budget


class Clock:
    """Time that passes with the work a batch would be, instead of with the machine's mood."""

    def __init__(
        self, encoder: TransformersEncoder, *, seconds_per_batch: float, seconds_per_token: float, slow_beyond: int
    ) -> None:
        self.now = 0.0
        run = encoder.launch

        def launch(batch: Sequence[Any]) -> Any:
            tokens = sum(item.n_tokens for item in batch)
            pace = seconds_per_token * (1 if tokens <= slow_beyond else 2)
            self.now += seconds_per_batch + tokens * pace
            return run(batch)

        encoder.launch = launch  # type: ignore[method-assign]  # the real work, on our time

    def __call__(self) -> float:
        return self.now


def test_a_model_without_a_published_check_has_none(encoder: TransformersEncoder) -> None:
    assert check_known_model(encoder) is None


def test_random_weights_fail_the_published_check(encoder: TransformersEncoder) -> None:
    check = run_check(encoder, KNOWN_MODELS[0])
    assert not check.ok
    assert "NOT as published" in check.describe()


def test_long_heads_in_bfloat16_take_the_blocked_attention_and_stay_right() -> None:
    from gristmill_worker.encoder.local.layout import Layout
    from gristmill_worker.encoder.local.packed import packed_attention

    torch.manual_seed(0)
    lengths = [2_200, 300, 150, 150, 1]
    layout = Layout.of(lengths, torch.device("cpu"))
    query, key, value = (torch.randn(1, heads, sum(lengths), 64).bfloat16() for heads in (2, 1, 1))
    for causal in (True, False):
        module = torch.nn.Identity()
        got, _ = packed_attention(module, query, key, value, None, is_causal=causal, packed=layout)
        parts = [torch.tensor_split(x.float(), layout.offsets[1:-1].tolist(), dim=2) for x in (query, key, value)]
        for index, out in enumerate(torch.tensor_split(got.float(), layout.offsets[1:-1].tolist(), dim=1)):
            expected = torch.nn.functional.scaled_dot_product_attention(
                parts[0][index], parts[1][index], parts[2][index], is_causal=causal, enable_gqa=True
            )
            torch.testing.assert_close(out.transpose(1, 2), expected, atol=0.05, rtol=0.05)
