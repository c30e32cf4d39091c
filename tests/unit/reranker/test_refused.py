"""What is no reranker is refused by what it is, and its files are read and not believed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

from gristmill import GristmillError, InvalidInput, ModelUnavailable
from gristmill_worker.reranker import open_reranker
from models import tiny_gpt2, tiny_qwen3, tiny_xlm_roberta
from rerankers import tiny_qwen3_reranker, tiny_xlm_roberta_reranker


def opened(folder: Path | str, **options: Any) -> None:
    open_reranker(str(folder), **{"device": "cpu", "dtype": "float32", "budget_tokens": 700, **options}).close()


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def with_other_weights(folder: Path, keep: Callable[[str], bool]) -> None:
    path = folder / "model.safetensors"
    save_file({name: each for name, each in load_file(path).items() if keep(name)}, path, {"format": "pt"})


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_xlm_roberta])
def test_an_embedding_model_is_refused_as_one(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"expected a reranker, got an embedding model.*--model"):
        opened(make(tmp_path))


def test_an_embedding_model_without_files_that_say_so_is_refused_too(tmp_path: Path) -> None:
    (tiny_xlm_roberta(tmp_path) / "modules.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"got XLMRobertaModel .*no head that scores pairs"):
        opened(tmp_path)


def test_a_language_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tiny_gpt2(tmp_path) / "modules.json").unlink()
    change(tmp_path, architectures=["GPT2LMHeadModel"])
    with pytest.raises(ModelUnavailable, match="got GPT2LMHeadModel"):
        opened(tmp_path)
    change(tmp_path, architectures=["GemmaForCausalLM"], model_type="gemma")
    with pytest.raises(ModelUnavailable, match="a language model that is asked another question"):
        opened(tmp_path)


def test_a_classifier_into_several_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"a classifier into 3 labels \(LABEL_0, LABEL_1, LABEL_2\)"):
        opened(tiny_xlm_roberta_reranker(tmp_path, labels=3))


def test_a_classifier_whose_weights_lack_its_head_is_refused(tmp_path: Path) -> None:
    with_other_weights(tiny_xlm_roberta_reranker(tmp_path), lambda name: not name.startswith("classifier"))
    with pytest.raises(
        ModelUnavailable, match=r"classifier\.\S+.* missing, in whose place there would be random numbers"
    ):
        opened(tmp_path)


def test_an_encoder_that_calls_itself_a_classifier_is_refused(tmp_path: Path) -> None:
    (tiny_xlm_roberta(tmp_path) / "modules.json").unlink()
    change(tmp_path, architectures=["XLMRobertaForSequenceClassification"], id2label={"0": "LABEL_0"})
    with pytest.raises(ModelUnavailable, match="missing, in whose place there would be random numbers"):
        opened(tmp_path)


def test_a_tokenizer_that_does_not_know_the_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="expected a tokenizer with 'no' as one token"):
        opened(tiny_qwen3_reranker(tmp_path, words=["yes"]))


def test_a_folder_without_a_tokenizer_or_without_weights_is_refused(tmp_path: Path) -> None:
    whole = tiny_qwen3_reranker(tmp_path / "whole")
    for missing, said in (("tokenizer*", "expected a tokenizer"), ("model.safetensors", "expected weights")):
        folder = tmp_path / said.replace(" ", "-")
        shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(missing))
        with pytest.raises(ModelUnavailable, match=said):
            opened(folder)


def test_code_of_a_models_own_is_refused_unasked(tmp_path: Path) -> None:
    change(tiny_xlm_roberta_reranker(tmp_path), auto_map={"AutoConfig": "configuration.NewConfig"}, model_type="new")
    with pytest.raises(ModelUnavailable, match="needs code of its own"):
        opened(tmp_path)


def test_settings_that_are_nonsense_are_refused_by_name(tmp_path: Path) -> None:
    change(tiny_xlm_roberta_reranker(tmp_path), id2label=7)
    with pytest.raises(ModelUnavailable, match="a setting in its JSON files is not of the kind"):
        opened(tmp_path)


def test_a_window_without_room_for_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"window of 40 tokens leaves no room.*GRISTMILL_RERANKER_MAX_TOKENS"):
        opened(tiny_qwen3_reranker(tmp_path), max_tokens=40)


def test_a_language_model_that_nobody_calls_a_reranker_is_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny_qwen3_reranker(tmp_path / "chat") / "README.md").unlink()
    opened(tmp_path / "chat")
    assert "no file says that this language model was trained to rerank" in caplog.text


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("overlap:none", InvalidInput, "overlap:TOKENS"),
        ("overlap:0", InvalidInput, "overlap:TOKENS"),
        ("/nowhere/at/all", ModelUnavailable, "no such folder"),
        ("http://", InvalidInput, "expected a URL"),
    ],
)
def test_names_that_mean_nothing_are_refused(name: str, error: type[GristmillError], said: str) -> None:
    with pytest.raises(error, match=said):
        opened(name)


def test_another_window_and_another_head_are_another_reranker(tmp_path: Path) -> None:
    folder = tiny_xlm_roberta_reranker(tmp_path / "one")
    first = open_reranker(str(folder), dtype="float32", budget_tokens=700)
    smaller = open_reranker(str(folder), dtype="float32", budget_tokens=700, max_tokens=64)
    config = transformers.XLMRobertaConfig.from_pretrained(folder)
    assert config.num_labels == 1
    assert first.info.digest != smaller.info.digest
    assert (first.info.task, first.info.max_tokens, smaller.info.max_tokens) == ("reranking", 512, 64)
    with pytest.raises(InvalidInput, match="which is a reranker"):
        first.info.space()
    first.close()
    smaller.close()
