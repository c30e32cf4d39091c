"""One model, one digest; another model, another digest."""

import json
import shutil
from pathlib import Path

import pytest

import families
import models
from gristmill_worker.encoder.model.digest import model_digest
from gristmill_worker.encoder.model.recipe import read_info


def test_a_copy_is_the_same_model(qwen3: Path, tmp_path: Path) -> None:
    assert model_digest(shutil.copytree(qwen3, tmp_path / "copy")) == model_digest(qwen3)


def test_what_only_the_writing_tool_changes_does_not_count(qwen3: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(qwen3, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    models.write_json(copy / "config.json", {**dict(reversed(config.items())), "transformers_version": "0"})
    (copy / "README.md").write_text("Hello")
    assert model_digest(copy) == model_digest(qwen3)


def test_the_layers_after_pooling_are_part_of_the_model(tmp_path: Path) -> None:
    labse = next(family for family in families.FAMILIES if family.name == "LaBSE")
    labse.build(tmp_path / "m")
    before = read_info(tmp_path / "m", model="m").digest
    weights = tmp_path / "m" / "2_Dense" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert read_info(tmp_path / "m", model="m").digest != before


@pytest.mark.parametrize("setting", [{"do_lower_case": True}, {"max_seq_length": 100}])
def test_a_setting_that_changes_vectors_counts(model_root: Path, tmp_path: Path, setting: dict[str, object]) -> None:
    copy = shutil.copytree(model_root / "bert", tmp_path / "copy")
    before = read_info(copy, model="m").digest
    models.write_json(copy / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False, **setting})
    assert read_info(copy, model="m").digest != before


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
