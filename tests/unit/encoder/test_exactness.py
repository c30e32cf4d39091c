"""The laws of the encoder, and equality with the two references: sentence-transformers and Qwen3's model card."""

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gristmill_schemas.errors import EncodingFailed
from gristmill_worker.batching.batcher import Batcher, encode_all
from gristmill_worker.batching.submission import stacked
from gristmill_worker.encoder import Vectors, open_encoder
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.local.encoder import TransformersEncoder

from .conftest import BUILDERS, TEXTS

ALL_MODELS = sorted(BUILDERS)
PACKABLE = [name for name in ALL_MODELS if name != "gpt2"]


@functools.cache
def load(folder: Path, **options: Any) -> TransformersEncoder:
    encoder = open_encoder(str(folder), **{"device": "cpu", "dtype": "float32", "budget_tokens": 256, **options})
    assert isinstance(encoder, TransformersEncoder)
    return encoder


def encode(encoder: TransformersEncoder, texts: list[str]) -> Vectors:
    return encoder.encode(encoder.tokenize(texts))


@pytest.mark.parametrize("name", ALL_MODELS)
def test_vectors_equal_sentence_transformers(model_root: Path, name: str) -> None:
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(model_root / name), device="cpu", local_files_only=True)
    texts = [text for text in TEXTS if text]
    expected = peer.encode(texts, convert_to_numpy=True, show_progress_bar=False)
    np.testing.assert_allclose(encode(load(model_root / name), texts), expected, atol=1e-5)


def test_vectors_equal_the_recipe_of_qwen3s_model_card(qwen3: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(qwen3), padding_side="left")
    model = AutoModel.from_pretrained(str(qwen3), dtype=torch.float32).eval()
    inputs = tokenizer(TEXTS, padding=True, truncation=True, max_length=8192, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state[:, -1]
    expected = torch.nn.functional.normalize(states, p=2, dim=1).numpy()
    np.testing.assert_allclose(encode(load(qwen3), TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("name", ALL_MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_does_not_depend_on_neighbours_or_order(model_root: Path, name: str, dtype: str) -> None:
    encoder = load(model_root / name, dtype=dtype)
    together = encode(encoder, TEXTS)
    alone = np.concatenate([encode(encoder, [text]) for text in TEXTS])
    order = random.Random(1).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = encode(encoder, [TEXTS[index] for index in order])
    # Padding itself rounds differently in bfloat16; packing does not pad.
    tolerance = 1e-5 if dtype == "float32" else 2e-3 if encoder.packed else 2e-2
    np.testing.assert_allclose(together, alone, atol=tolerance)
    np.testing.assert_allclose(shuffled, together[order], atol=tolerance)


@pytest.mark.parametrize("name", PACKABLE)
def test_known_architectures_run_without_padding(model_root: Path, name: str) -> None:
    assert load(model_root / name, packed=True).packed


@pytest.mark.parametrize("name", ALL_MODELS)
def test_padded_batches_give_the_same_vectors(model_root: Path, name: str) -> None:
    padded = load(model_root / name, packed=False)
    assert not padded.packed
    np.testing.assert_allclose(encode(padded, TEXTS), encode(load(model_root / name), TEXTS), atol=1e-5)


@pytest.mark.parametrize("budget", [1, 7, 64, 100_000])
def test_the_budget_changes_no_vector(qwen3: Path, budget: int) -> None:
    encoder = load(qwen3, budget_tokens=budget)
    texts = encoder.tokenize(TEXTS)
    np.testing.assert_allclose(encode_all(encoder, texts), encoder.encode(texts), atol=1e-5)


@pytest.mark.parametrize("name", ALL_MODELS)
def test_an_empty_batch_gives_no_rows(model_root: Path, name: str) -> None:
    vectors = load(model_root / name).encode([])
    assert vectors.shape == (0, 64)
    assert vectors.dtype == np.float32


def test_vectors_have_length_one_unless_told_otherwise(qwen3: Path) -> None:
    np.testing.assert_allclose(np.linalg.norm(encode(load(qwen3), TEXTS), axis=1), 1.0, atol=1e-6)
    raw = encode(load(qwen3, normalize=False), TEXTS)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1.0).max() > 0.1


def test_launch_hands_over_batches_in_the_order_they_were_started(qwen3: Path) -> None:
    encoder = load(qwen3)
    batches = [encoder.tokenize([text, text[::-1]]) for text in TEXTS]
    started = [encoder.launch(batch) for batch in batches]
    for batch, finish in zip(batches, started, strict=True):
        np.testing.assert_array_equal(finish(), encoder.encode(batch))


def test_pooling_can_be_overridden_and_is_another_space(qwen3: Path) -> None:
    last, mean = load(qwen3), load(qwen3, pooling="mean")
    assert last.info.space().fingerprint != mean.info.space().fingerprint
    assert np.abs(encode(last, TEXTS[:1]) - encode(mean, TEXTS[:1])).max() > 0.01


def test_a_text_beyond_the_window_is_cut_and_says_so(qwen3: Path) -> None:
    encoder = load(qwen3, max_tokens=8)
    short, long = encoder.tokenize(["a", TEXTS[3]])
    assert (short.truncated, long.truncated) == (False, True)
    assert (long.n_tokens, len(long.ids)) == (8, 8)
    assert long.ids[-1] == short.ids[-1], "the end-of-text token that Qwen3 pools from survives cutting"
    assert encoder.encode([short, long]).shape == (2, 64)


@pytest.mark.parametrize("packed", [True, False])
def test_a_text_without_tokens_fails_alone_and_takes_no_neighbours_vector(qwen3: Path, packed: bool) -> None:
    encoder = open_encoder(str(qwen3), device="cpu", dtype="float32", budget_tokens=256, packed=packed)
    assert isinstance(encoder, TransformersEncoder)
    nothing = TokenizedText("", np.empty(0, dtype=np.int32), 1)
    before, after = encoder.tokenize(["before", "after"])
    batcher = Batcher(encoder)
    try:
        rows = batcher.submit([before, nothing, after]).result(60)
    finally:
        batcher.close()
    assert isinstance(rows[1], EncodingFailed)
    assert "no tokens" in str(rows[1])
    np.testing.assert_allclose(stacked([rows[0], rows[2]], 64), encode(encoder, ["before", "after"]), atol=1e-5)
