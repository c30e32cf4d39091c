"""Tiny models, built once per run, and the texts that exactness is tested on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import models

BUILDERS = {
    "qwen3": models.tiny_qwen3,
    "bert": models.tiny_bert,
    "xlm-roberta": models.tiny_xlm_roberta,
    "modernbert": models.tiny_modernbert,
    "gpt2": models.tiny_gpt2,
}
TEXTS = [
    "Gravity is a force.",
    "用了优惠券但没减钱，应该怎么办？😀",
    "a",
    "The old mill by the river grinds grain into flour, day after day. " * 5,
    "The old mill by the river grinds rain into flowers, day after day. " * 2,
    "b",
    "",
]


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every tiny model, a folder each."""
    root = tmp_path_factory.mktemp("models")
    for name, build in BUILDERS.items():
        build(root / name)
    return root


@pytest.fixture(scope="session")
def qwen3(model_root: Path) -> Path:
    """The tiny Qwen3's folder."""
    return model_root / "qwen3"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models run faster on one thread than they hand work to two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
