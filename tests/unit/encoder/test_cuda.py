"""What runs on a card, where there is one: `pytest -m cuda`."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gristmill_worker.batching.batcher import Batcher, encode_all
from gristmill_worker.batching.submission import Lane
from gristmill_worker.bench.gpu import run_gpu_bench
from gristmill_worker.encoder import Vectors, cards, open_encoder
from gristmill_worker.encoder.local.cuda.decoder import DecoderLayer
from gristmill_worker.encoder.local.cuda.kernels import Heads, Norms, TorchKernels
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.forward import PackedForward
from gristmill_worker.encoder.local.layout import Layout
from gristmill_worker.encoder.local.load import load
from gristmill_worker.encoder.local.replay import ReplayedForward
from gristmill_worker.encoder.local.staging import staging

from .conftest import BUILDERS, TEXTS

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card, and torch sees none"),
]
PACKABLE = sorted(BUILDERS.keys() - {"gpt2"})
#: Every text of the pinned kind, some of them often.
MANY = TEXTS * 20


def opened(folder: Path | str, **options: Any) -> TransformersEncoder:
    encoder = open_encoder(str(folder), **{"device": "cuda", "dtype": "bfloat16", "budget_tokens": 4_096, **options})
    assert isinstance(encoder, TransformersEncoder)
    return encoder


def on_cpu(folder: Path) -> Vectors:
    encoder = open_encoder(str(folder), device="cpu", dtype="float32", budget_tokens=4_096)
    return encode_all(encoder, encoder.tokenize(TEXTS))


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the card raises."""
    with warnings.catch_warnings():
        # It says once that it does not see all of it.
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def least_cosine(left: Vectors, right: Vectors) -> float:
    return float((left * right).sum(1).min())


@pytest.mark.parametrize("name", PACKABLE)
def test_packed_vectors_in_bfloat16_are_those_of_the_cpu_in_float32(model_root: Path, name: str) -> None:
    encoder = opened(model_root / name)
    assert encoder.packed, "the parity gate refused the card's attention"
    assert least_cosine(encode_all(encoder, encoder.tokenize(TEXTS)), on_cpu(model_root / name)) > 0.99


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_padded_vectors_in_float32_are_those_of_the_cpu(model_root: Path, name: str) -> None:
    encoder = opened(model_root / name, dtype="float32", packed=False)
    assert least_cosine(encode_all(encoder, encoder.tokenize(TEXTS)), on_cpu(model_root / name)) > 1 - 1e-5


@pytest.mark.parametrize("name", PACKABLE)
def test_a_launch_never_waits_for_the_card(model_root: Path, name: str, request: pytest.FixtureRequest) -> None:
    encoder = opened(model_root / name)
    batch = encoder.tokenize(TEXTS)
    expected = encoder.encode(batch)
    request.getfixturevalue("no_waiting")
    results = [encoder.launch(batch) for _ in range(3)]
    torch.cuda.set_sync_debug_mode("default")
    for result in results:
        np.testing.assert_allclose(result(), expected, atol=2e-3)


def test_page_locked_buffers_go_round(model_root: Path) -> None:
    encoder = opened(model_root / "qwen3")
    batch = encoder.tokenize(TEXTS)
    for _ in range(5):
        encoder.encode(batch)
    made = staging(torch.device("cuda", 0)).made
    for _ in range(50):
        encoder.encode(batch)
    assert staging(torch.device("cuda", 0)).made <= made + 1


def test_memory_that_runs_out_costs_no_text_its_vector(model_root: Path) -> None:
    encoder = opened(model_root / "bert", budget_tokens=2_000_000)
    texts = encoder.tokenize(MANY * 200)
    held = torch.empty(max(1, torch.cuda.mem_get_info()[0] - 400 * 2**20), dtype=torch.uint8, device="cuda")
    batcher = Batcher(encoder)
    try:
        rows = batcher.submit(texts).result(timeout=300)
        assert not [row for row in rows if isinstance(row, Exception)]
    finally:
        batcher.close()
        del held
        torch.cuda.empty_cache()


def test_a_budget_is_measured_on_the_card_and_watched(model_root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder = opened(model_root / "qwen3", budget_tokens=None)
    assert encoder.tuning is not None
    assert encoder.limits.tokens >= 2_048
    encode_all(encoder, encoder.tokenize(MANY))


def test_the_card_is_told_of() -> None:
    (card, *_) = cards.cards()
    assert card.memory_gb > 0
    assert cards.driver_version() in card.describe(cards.driver_version())


def test_the_benchmark_of_a_card_prints_its_table() -> None:
    table = run_gpu_bench("random:qwen3-0.6b:2", n_texts=200, rounds=1, peer=True)
    assert table["card"]
    assert all(case["ratio_to_peer"] > 0 for case in table["cases"].values())
    assert table["cases"]["mixed"]["memory_gb"] < 3
    assert table["max_cosine_error"] < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "heads", [Heads(16, 8, 128), Heads(32, 8, 128), Heads(14, 2, 64), Heads(4, 2, 16), Heads(3, 1, 96)]
)
def test_kernels_between_products_give_what_torchs_operations_give(heads: Heads, dtype: torch.dtype) -> None:
    triton = pytest.importorskip("gristmill_worker.encoder.local.cuda.triton_kernels").TritonKernels()
    width = (heads.queries + 2 * heads.keys) * heads.size
    draw = torch.Generator("cuda").manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device="cuda", generator=draw).to(dtype)

    def assert_rounded(found: torch.Tensor, exact: torch.Tensor) -> None:
        torch.testing.assert_close(found, exact.to(dtype))

    rows, cos, sin = random(77, width), random(77, heads.size), random(77, heads.size)
    for norms in (None, Norms(random(heads.size), random(heads.size), 1e-6)):
        wide = norms and Norms(norms.query.float(), norms.key.float(), norms.eps)
        found, exact = rows.clone(), rows.float()
        triton.rotate_(found, cos, sin, heads, norms)
        TorchKernels().rotate_(exact, cos.float(), sin.float(), heads, wide)
        if heads.size != 96:  # left to torch, which rounds in between
            assert_rounded(found, exact)
    for columns in (2, 200, 6_144):
        gate = random(33, columns)
        assert_rounded(triton.gate_(gate.clone()), TorchKernels().gate_(gate.float()))


@pytest.mark.parametrize("name", PACKABLE)
def test_a_small_pass_is_replayed_and_gives_what_it_gives_when_its_kernels_are_started_one_by_one(
    model_root: Path, name: str
) -> None:
    encoder = opened(model_root / name)
    replayed = encoder._forward
    assert isinstance(replayed, ReplayedForward), "small passes are not recorded"
    draw, window = np.random.default_rng(3), encoder.info.max_tokens
    with torch.inference_mode():
        for lengths in ([1], [64], [9, 1, 30], [300, 7], [640], [16] * 40, [3] * 30, [641], [2] * 200):
            fitting = [min(length, window) for length in lengths]
            texts = [draw.integers(0, encoder.vocabulary, length).astype(np.int32) for length in fitting]
            one, other = replayed(texts), replayed._forward(texts)
            assert one.shape == other.shape
            assert float(torch.nn.functional.cosine_similarity(one, other).min()) > 0.999


def test_a_pass_that_cannot_be_recorded_leaves_the_card_as_it_was(model_root: Path) -> None:
    class Asking(PackedForward):
        def states(self, ids: torch.Tensor, where: torch.Tensor, layout: Layout) -> torch.Tensor:
            assert ids.max().item() >= 0  # the host waits for the card, which no recording can
            return super().states(ids, where, layout)

    loaded = load(str(model_root / "qwen3"), device="cuda", dtype="bfloat16")
    how = loaded.model, loaded.info.pooling, loaded.device
    texts = [np.arange(1, 9, dtype=np.int32)]
    with torch.inference_mode():
        with pytest.raises(RuntimeError):
            ReplayedForward(Asking(*how), loaded.device)
        # As after each time that memory runs out.
        torch.cuda.empty_cache()
        one, other = (
            forward(texts) for forward in (ReplayedForward(PackedForward(*how), loaded.device), PackedForward(*how))
        )
    assert float(torch.nn.functional.cosine_similarity(one, other).min()) > 0.999


def test_queries_beside_bulk_work_have_their_own_vectors(model_root: Path) -> None:
    encoder = opened(model_root / "qwen3", budget_tokens=8_192)
    assert encoder.limits.beside
    expected = {text: encoder.encode(encoder.tokenize([text]))[0] for text in TEXTS}
    batcher = Batcher(encoder)
    try:
        bulk = [batcher.submit(encoder.tokenize(MANY)) for _ in range(20)]
        asked: list[tuple[str, Any]] = []
        while not bulk[-1].done():
            text = TEXTS[len(asked) % len(TEXTS)]
            (row,) = batcher.submit(encoder.tokenize([text]), Lane.INTERACTIVE).result(60)
            asked.append((text, row))
        assert asked
        for text, row in [
            *asked,
            *((text, row) for each in bulk for text, row in zip(MANY, each.result(), strict=True)),
        ]:
            assert float(row @ expected[text]) > 0.999
    finally:
        batcher.close()


def test_a_decoder_runs_fused_on_a_card(model_root: Path) -> None:
    loaded = load(str(model_root / "qwen3"), device="cuda", dtype="bfloat16")
    TransformersEncoder(loaded, 4_096)
    assert {type(layer) for layer in loaded.model.layers} == {DecoderLayer}
