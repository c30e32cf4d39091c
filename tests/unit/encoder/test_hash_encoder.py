"""The stand-in keeps the encoder's laws without a model."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gristmill_worker.encoder import open_encoder

#: What `hash:4` says about "gristmill": stored vectors of earlier releases must stay comparable.
EXPECTED = [-0.3800892, -0.9032228, 0.0531308, -0.1920881]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.lists(texts, max_size=8))
def test_a_vector_is_a_function_of_its_text_alone(batch: list[str]) -> None:
    encoder = open_encoder("hash:64")
    vectors = encoder.encode(encoder.tokenize(batch))
    assert vectors.shape == (len(batch), 64)
    assert vectors.dtype == np.float32
    for text, vector in zip(batch, vectors, strict=True):
        np.testing.assert_array_equal(encoder.encode(encoder.tokenize([text]))[0], vector)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_different_texts_are_far_apart() -> None:
    encoder = open_encoder("hash:256")
    vectors = encoder.encode(encoder.tokenize([f"text {number}" for number in range(200)]))
    cosines = vectors @ vectors.T - np.eye(200, dtype=np.float32)
    assert np.abs(cosines).max() < 0.4


def test_vectors_never_change_between_releases() -> None:
    encoder = open_encoder("hash:4")
    vector = encoder.encode(encoder.tokenize(["gristmill"]))[0]
    np.testing.assert_allclose(vector, EXPECTED, atol=1e-6)


def test_words_are_tokens_and_so_is_each_chinese_character() -> None:
    encoder = open_encoder("hash:8", max_tokens=4)
    plain, chinese, long = encoder.tokenize(["one two", "你好 world", "one two three four five"])
    assert (plain.n_tokens, chinese.n_tokens, long.n_tokens) == (2, 3, 4)
    assert (long.text, long.truncated, plain.truncated) == ("one two three four", True, False)


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from gristmill_worker.encoder import open_encoder as o; e = o('hash:8'); "
        "e.encode(e.tokenize(['a'])); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
