"""One model, one digest; another model, another digest."""

import json
import shutil
from pathlib import Path

import pytest

import models
from gristmill_worker.encoder.model.digest import model_digest


def test_a_copy_is_the_same_model(qwen3: Path, tmp_path: Path) -> None:
    assert model_digest(shutil.copytree(qwen3, tmp_path / "copy")) == model_digest(qwen3)


def test_what_only_the_writing_tool_changes_does_not_count(qwen3: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(qwen3, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    models.write_json(copy / "config.json", {**dict(reversed(config.items())), "transformers_version": "0"})
    (copy / "README.md").write_text("Hello")
    assert model_digest(copy) == model_digest(qwen3)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"])
def test_every_part_that_changes_vectors_counts(qwen3: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(qwen3, tmp_path / "copy")
    path = copy / name
    content = bytearray(path.read_bytes())
    content[-100:-100] = b" "
    if name.endswith("config.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "rope_theta": 7}))
    else:
        path.write_bytes(content)
    assert model_digest(copy) != model_digest(qwen3)
