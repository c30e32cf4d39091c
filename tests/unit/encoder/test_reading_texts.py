"""Counting and cutting texts without the weights: what a loaded encoder says, token for token."""

from pathlib import Path

import pytest

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.base import Encoder
from gristmill_worker.encoder.model.recipe import Overrides
from gristmill_worker.encoder.open import open_encoder, open_reader

TEXTS = [
    "",
    "a",
    "用了优惠券但没减钱，应该怎么办？😀",
    "The old mill by the river grinds grain. " * 60,
    "磨坊在河边。" * 200,
]
NAMES = ["qwen3", "bert", "xlm-roberta"]


@pytest.fixture(scope="module", params=[*NAMES, "hash:16"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("model_root") / request.param if request.param in NAMES else request.param)


@pytest.fixture(scope="module")
def encoder(name: str) -> Encoder:
    return open_encoder(name, device="cpu", dtype="float32", budget_tokens=1024)


def test_a_reader_counts_cuts_and_describes_itself_as_the_encoder_does(name: str, encoder: Encoder) -> None:
    reader = open_reader(name, digest=encoder.info.digest)
    assert reader.info == encoder.info
    texts = [encoder.info.templates.for_document(text) for text in TEXTS]
    counts = [(item.n_tokens, item.truncated, item.ids.tolist()) for item in reader.tokenize(texts)]
    assert counts == [(item.n_tokens, item.truncated, item.ids.tolist()) for item in encoder.tokenize(texts)]
    for text in TEXTS[1:]:
        assert reader.chunk(text, 32, 4, reserved=5) == encoder.chunk(text, 32, 4, reserved=5)


def test_a_smaller_window_is_read_as_its_worker_reads_it(model_root: Path) -> None:
    worker = open_encoder(str(model_root / "bert"), device="cpu", max_tokens=24, budget_tokens=1024)
    reader = open_reader(str(model_root / "bert"), overrides=Overrides(max_tokens=24), digest=worker.info.digest)
    assert reader.tokenize(TEXTS[3:4])[0].truncated
    assert reader.info == worker.info


def test_another_model_under_the_same_name_is_not_taken_for_the_one_that_is_meant(model_root: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"another model .* than the one that is meant \(0{32}\)"):
        open_reader(str(model_root / "bert"), digest="0" * 32)


def test_texts_are_read_without_any_weights(model_root: Path, tmp_path: Path) -> None:
    for file in (model_root / "bert").rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            (tmp_path / file.relative_to(model_root / "bert")).parent.mkdir(exist_ok=True)
            (tmp_path / file.relative_to(model_root / "bert")).write_bytes(file.read_bytes())
    whole, bare = (
        open_reader(str(model_root / "bert")),
        open_reader(str(tmp_path), digest="of weights that are not here"),
    )
    assert [item.n_tokens for item in bare.tokenize(TEXTS)] == [item.n_tokens for item in whole.tokenize(TEXTS)]
