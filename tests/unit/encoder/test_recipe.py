"""What a model folder says about itself, and who wins where two sources differ."""

import json
import shutil
from pathlib import Path

import pytest

import models
from gristmill_schemas import Pooling, Templates
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.families import family_of
from gristmill_worker.encoder.model.recipe import Overrides, read_info

TASK = "Given a web search query, retrieve relevant passages that answer the query"


def test_qwen3_embedding_is_read_from_its_own_files(qwen3: Path) -> None:
    info = read_info(qwen3, model="someone/copy")
    assert (info.pooling, info.dimensions, info.max_tokens) == (Pooling.LAST, 64, 32_768)
    assert info.instruction_aware
    assert info.templates.for_query("x") == f"Instruct: {TASK}\nQuery:x"
    assert info.templates.for_query("x", "Find jokes") == "Instruct: Find jokes\nQuery:x"
    assert info.templates.for_document("x") == "x"


def test_the_family_speaks_where_the_folder_is_silent(tmp_path: Path) -> None:
    folder = models.tiny_qwen3(tmp_path / "bare", sentence_transformers=False)
    info = read_info(folder, model="Qwen/Qwen3-Embedding-0.6B")
    assert info.templates.for_query("x") == f"Instruct: {TASK}\nQuery:x"
    assert (info.pooling, info.min_dimensions, info.instruction_aware) == (Pooling.LAST, 32, True)


def test_prefixes_come_from_the_prompts(model_root: Path) -> None:
    info = read_info(model_root / "bert", model="bert")
    assert (info.pooling, info.max_tokens, info.instruction_aware) == (Pooling.MEAN, 256, False)
    assert (info.templates.for_query("x"), info.templates.for_document("x")) == ("query: x", "passage: x")
    assert info.templates.for_query("x", "Find jokes") == "query: Find jokes\nx"


def test_roberta_positions_cost_two_of_its_window(model_root: Path) -> None:
    info = read_info(model_root / "xlm-roberta", model="x")
    assert (info.max_tokens, info.pooling) == (512, Pooling.CLS)


@pytest.mark.parametrize(
    ("name", "expected"), [("qwen3", Pooling.LAST), ("gpt2", Pooling.LAST), ("bert", Pooling.MEAN)]
)
def test_architecture_decides_pooling_when_nothing_else_does(
    model_root: Path, tmp_path: Path, name: str, expected: Pooling
) -> None:
    folder = _without_files(model_root / name, tmp_path / "m")
    assert read_info(folder, model="unheard-of").pooling is expected


def test_overrides_win_over_everything(qwen3: Path) -> None:
    mine = Templates(query="Q {text}")
    info = read_info(qwen3, model="m", overrides=Overrides(Pooling.MEAN, False, 128, mine, False))
    assert (info.pooling, info.normalize, info.max_tokens) == (Pooling.MEAN, False, 128)
    assert (info.templates, info.instruction_aware) == (mine, False)


def test_no_override_goes_beyond_the_positions_a_model_has(model_root: Path) -> None:
    assert read_info(model_root / "xlm-roberta", model="x", overrides=Overrides(max_tokens=10_000)).max_tokens == 512


def test_the_old_spelling_of_pooling_is_read(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "old")
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "word_embedding_dimension": 64}
    models.write_json(folder / "1_Pooling" / "config.json", flags)
    assert read_info(folder, model="x").pooling is Pooling.CLS


def test_steps_that_are_not_performed_are_refused_by_name(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "lstm")
    modules = json.loads((folder / "modules.json").read_text())
    models.write_json(folder / "modules.json", [*modules, {"type": "sentence_transformers.models.LSTM", "path": "3"}])
    with pytest.raises(ModelUnavailable, match=r"also needs LSTM; serve it"):
        read_info(folder, model="x")


def test_a_pooling_that_is_not_performed_is_refused_by_name(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "two")
    models.write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": ["cls", "max"]})
    with pytest.raises(ModelUnavailable, match=r"\['cls', 'max'\]; serve it"):
        read_info(folder, model="x")


def test_matryoshka_sizes_come_from_the_configuration(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    models.write_json(folder / "config.json", {**config, "matryoshka_dimensions": [32, 16]})
    info = read_info(folder, model="x")
    assert info.matryoshka_dimensions == (16, 32)
    assert info.space(32).dimensions == 32


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("intfloat/multilingual-e5-small", "query: x", "passage: x"),
        ("/models/e5-small", "query: x", "passage: x"),
        ("intfloat/multilingual-e5-large-instruct", f"Instruct: {TASK}\nQuery: x", "x"),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: x", "x"),
        ("BAAI/bge-large-zh-v1.5", "为这个句子生成表示以用于检索相关文章：x", "x"),
        ("BAAI/bge-m3", "x", "x"),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: x", "search_document: x"),
    ],
)
def test_known_families_have_the_templates_of_their_model_cards(name: str, query: str, document: str) -> None:
    family = family_of(name)
    assert family is not None
    assert (family.templates.for_query("x"), family.templates.for_document("x")) == (query, document)


def test_a_name_that_only_contains_the_letters_is_no_family() -> None:
    assert family_of("acme/house5-base") is None


def _without_files(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("modules.json", "1_Pooling", "*sentence*"))
    return target
