"""What a folder's files ask for, one setting at a time: performed as sentence-transformers does, or refused by name."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import families
import models
from gristmill_schemas import Distance, Pooling
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder import Vectors, open_encoder
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.model.recipe import read_info, read_recipe

from .conftest import TEXTS

INPUTS = [*(text for text in TEXTS if text), "Texts Of Many LENGTHS lie end to end. " * 40]

pytestmark = pytest.mark.slow


def update(path: Path, **values: Any) -> None:
    there = json.loads(path.read_text()) if path.is_file() else {}
    models.write_json(path, {**there, **values})


def pooled_by(mode: str) -> Callable[[Path], object]:
    return lambda folder: update(folder / "1_Pooling" / "config.json", pooling_mode=mode)


def with_modules(*kinds: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        families.write_modules(folder, ["Transformer", "Pooling", *kinds])
        for place, kind in enumerate(kinds, 2):
            module = folder / f"{place}_{kind}"
            module.mkdir()
            if kind == "LayerNorm":
                models.write_json(module / "config.json", {"dimension": 64})
                save_file(
                    {"norm.weight": torch.linspace(0.5, 2, 64), "norm.bias": torch.ones(64)},
                    module / "model.safetensors",
                )
            if kind == "Dense":
                settings = {"in_features": 64, "out_features": 64, "bias": True, "use_residual": True}
                models.write_json(module / "config.json", settings)
                weights = {"linear.weight": torch.randn(64, 64) / 8, "linear.bias": torch.ones(64)}
                torch.save(weights, module / "pytorch_model.bin")

    return write


SETTINGS: dict[str, Callable[[Path], object]] = {
    "lowered": lambda folder: update(folder / "sentence_bert_config.json", do_lower_case=True),
    "the end is kept": lambda folder: update(folder / "tokenizer_config.json", truncation_side="left"),
    "padding on the left": lambda folder: update(folder / "tokenizer_config.json", padding_side="left"),
    "cut": lambda folder: update(folder / "config_sentence_transformers.json", truncate_dim=16),
    "a sister's name": lambda folder: shutil.move(
        folder / "sentence_bert_config.json", folder / "sentence_roberta_config.json"
    ),
    "max": pooled_by("max"),
    "weighted mean": pooled_by("weightedmean"),
    "sum over root": pooled_by("mean_sqrt_len_tokens"),
    "last": pooled_by("lasttoken"),
    "layer norm": with_modules("LayerNorm"),
    "scaled, then a residual layer": with_modules("Normalize", "Dense"),
    "dropout": with_modules("Dropout", "Normalize"),
    "by dot product, cut": lambda folder: update(
        folder / "config_sentence_transformers.json", similarity_fn_name="dot", truncate_dim=16
    ),
    "one default prompt": lambda folder: update(
        folder / "config_sentence_transformers.json", prompts={"sts": "say: "}, default_prompt_name="sts"
    ),
}


def opened(folder: Path, **options: Any) -> TransformersEncoder:
    encoder = open_encoder(str(folder), device="cpu", dtype="float32", budget_tokens=256, **options)
    assert isinstance(encoder, TransformersEncoder)
    return encoder


def encode(encoder: TransformersEncoder, texts: list[str]) -> Vectors:
    return encoder.encode(encoder.tokenize([encoder.info.templates.for_query(text) for text in texts]))


@pytest.mark.parametrize("packed", [None, False])
@pytest.mark.parametrize("setting", sorted(SETTINGS))
def test_a_setting_is_performed_as_sentence_transformers_does(
    model_root: Path, tmp_path: Path, setting: str, packed: bool | None
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    update(folder / "sentence_bert_config.json", max_seq_length=64)
    SETTINGS[setting](folder)
    encoder = opened(folder, packed=packed)
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    expected = peer.encode_query(INPUTS, normalize_embeddings=encoder.info.normalize, batch_size=1)
    np.testing.assert_allclose(encode(encoder, INPUTS), expected, atol=2e-5 if not encoder.info.normalize else 1e-5)
    assert encoder.info.dimensions == expected.shape[1]


def own_activation(folder: Path) -> None:
    with_modules("Dense")(folder)
    update(folder / "2_Dense" / "config.json", activation_function="x.Y")


def configured(folder: Path, **values: Any) -> None:
    update(folder / "config_sentence_transformers.json", **values)


def two_flags(folder: Path) -> None:
    path = folder / "1_Pooling" / "config.json"
    models.write_json(path, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True})


def outside(folder: Path) -> None:
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("1_Pooling", "../m/1_Pooling"))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "another task": (
        lambda folder: update(folder / "sentence_bert_config.json", transformer_task="fill-mask"),
        "transformer_task",
    ),
    "lengths by task": (lambda folder: update(folder / "sentence_bert_config.json", query_length=32), "query_length"),
    "arguments": (
        lambda folder: update(folder / "sentence_bert_config.json", config_args={"rope_scaling": {"factor": 2}}),
        "rope_scaling",
    ),
    "two poolings": (lambda folder: update(folder / "1_Pooling" / "config.json", pooling_mode=["cls", "mean"]), "cls"),
    "a similarity of its own": (
        lambda folder: update(folder / "config_sentence_transformers.json", similarity_fn_name="manhattan"),
        "manhattan",
    ),
    "no pooling": (
        lambda folder: families.write_modules(folder, ["Transformer", "Normalize"]),
        "got Transformer, Normalize",
    ),
    "an activation of its own": (own_activation, "'x.Y'"),
    "a pooling that nobody knows": (pooled_by("attention"), "attention"),
    "a flag of pooling that nobody knows": (
        lambda folder: update(folder / "1_Pooling" / "config.json", pooling_mode_attention=True), "pooling_mode_attention"),
    "two flags of pooling": (two_flags, "['cls', 'mean']"),
    "a module that is not performed": (
        lambda folder: families.write_modules(folder, ["Transformer", "Pooling", "WordWeights"]), "WordWeights"),
    "a router": (lambda folder: families.write_modules(folder, ["Router"]), "Router"),
    "convolutions": (lambda folder: families.write_modules(folder, ["Transformer", "CNN", "Pooling"]), "CNN"),
    "a module outside of the folder": (outside, "got '../m/1_Pooling'"),
}  # fmt: skip
#: Files in which something is wrong, rather than beyond what is performed.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"cut to {cut!r}": (partial(configured, truncate_dim=cut), rf"truncate_dim: .* at least 1, got {cut!r}; set")
        for cut in (0, -8, "16", 1.5)
    },
    "a default prompt that is not there": (
        partial(configured, default_prompt_name="sts"), r"default_prompt_name: .*\(query, document\), got 'sts'; set it"),
    "no modules in the list": (
        lambda folder: models.write_json(folder / "modules.json", []), r"list of modules, got \[\]; fetch"),
}  # fmt: skip


@pytest.mark.parametrize("setting", sorted(WRONG))
def test_what_is_wrong_in_a_file_is_refused_and_says_what_to_do(model_root: Path, tmp_path: Path, setting: str) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    change, words = WRONG[setting]
    change(folder)
    with pytest.raises(ModelUnavailable, match=words):
        read_info(folder, model="m")


def test_cutting_above_the_width_is_not_cutting(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    plain = read_info(folder, model="m")
    configured(folder, truncate_dim=1024)
    assert read_info(folder, model="m") == plain


@pytest.mark.parametrize("setting", sorted(REFUSED))
def test_what_is_not_performed_is_refused_by_name_and_says_what_to_do(
    model_root: Path, tmp_path: Path, setting: str
) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    change, words = REFUSED[setting]
    change(folder)
    with pytest.raises(ModelUnavailable) as refused:
        read_info(folder, model="m")
    assert words in str(refused.value)
    assert "take another model" in str(refused.value)


@pytest.mark.parametrize("call", ["e5-small", "my-model", "bge-base-zh"])
def test_a_folders_name_changes_nothing(tmp_path: Path, call: str) -> None:
    families.listed(families.bert)(tmp_path / "plain")
    plain = read_info(tmp_path / "plain", model=str(tmp_path / "plain"))
    renamed = (tmp_path / "plain").rename(tmp_path / call)
    assert read_info(renamed, model=str(renamed)).space().fingerprint == plain.space().fingerprint


@pytest.mark.parametrize("call", ["e5-small", "my-model"])
def test_a_card_says_which_prefixes_a_folder_has_under_any_name(tmp_path: Path, call: str) -> None:
    families.listed(families.bert, card="multilingual-e5-small")(tmp_path / call)
    templates = read_info(tmp_path / call, model=str(tmp_path / call)).templates
    assert (templates.for_query("x"), templates.for_document("x")) == ("query: x", "passage: x")


def test_a_folder_that_only_sounds_like_a_family_says_how_to_give_it_prefixes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    families.listed(families.bert)(tmp_path / "e5-small")
    read_info(tmp_path / "e5-small", model=str(tmp_path / "e5-small"))
    assert "config_sentence_transformers.json" in caplog.text
    caplog.clear()
    update(tmp_path / "e5-small" / "config_sentence_transformers.json", prompts={"query": "query: "})
    read_info(tmp_path / "e5-small", model=str(tmp_path / "e5-small"))
    assert not caplog.text, "it says its prompts"


def test_gemma_3_that_sees_both_sides_pools_the_mean_without_being_told(tmp_path: Path) -> None:
    families.gemma3(tmp_path / "m")
    assert read_info(tmp_path / "m", model="m").pooling is Pooling.MEAN


@pytest.mark.parametrize("asks", [True, False])
def test_the_end_of_a_text_is_appended_where_its_files_ask_for_it(tmp_path: Path, asks: bool) -> None:
    folder = tmp_path / "m"
    families.listed(families.mistral, pooling="lasttoken", window=8)(folder)
    update(folder / "tokenizer_config.json", add_eos_token=asks)
    short, long = opened(folder).tokenize(["a", "a long text, beyond the window of eight tokens"])
    assert (short.ids[-1] == 2, long.ids[-1] == 2, len(long.ids)) == (asks, asks, 8)


def test_qwen3_pools_from_its_end_though_its_tokenizer_was_saved_without_it(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    families.listed(families.qwen3, pooling="lasttoken", card="Qwen3-Embedding-0.6B")(folder)
    whole = opened(folder)
    backend = json.loads((folder / "tokenizer.json").read_text())
    models.write_json(folder / "tokenizer.json", {**backend, "post_processor": None})
    np.testing.assert_allclose(encode(opened(folder), INPUTS), encode(whole, INPUTS), atol=1e-6)


def test_capped_scores_are_not_packed_away(tmp_path: Path) -> None:
    words = models.byte_tokenizer(["<pad>", "<eos>", "<bos>"], "<bos> $A <eos>")
    config = transformers.Gemma2Config(
        vocab_size=words.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=8, attn_logit_softcapping=0.5, initializer_range=0.2,
    )  # fmt: skip
    models.save_model(transformers.Gemma2Model, config, tmp_path / "m")
    models.save_tokenizer(words, tmp_path / "m", pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
    encoder = opened(tmp_path / "m", pooling="mean")
    model: Any = transformers.Gemma2Model.from_pretrained(tmp_path / "m", attn_implementation="eager")
    with torch.inference_mode():
        ids = torch.tensor([encoder.tokenize(["a short text"])[0].ids.tolist()])
        expected = torch.nn.functional.normalize(model(ids).last_hidden_state.mean(1), dim=-1).numpy()
    assert not encoder.packed
    np.testing.assert_allclose(encode(encoder, ["a short text"]), expected, atol=1e-5)


def test_a_model_that_padding_changes_is_never_padded(tmp_path: Path) -> None:
    words = models.byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")
    config = transformers.FNetConfig(
        vocab_size=words.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        initializer_range=0.2,
    )
    models.save_model(transformers.FNetModel, config, tmp_path / "m")
    models.save_tokenizer(words, tmp_path / "m", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    encoder = opened(tmp_path / "m")
    together = encode(encoder, TEXTS)
    np.testing.assert_allclose(together, np.concatenate([encode(encoder, [text]) for text in TEXTS]), atol=1e-5)


def test_a_model_that_fails_at_once_is_refused_with_a_way_out(tmp_path: Path) -> None:
    words = models.byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")
    config = transformers.XmodConfig(
        vocab_size=words.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        languages=["en_XX"],
    )  # fmt: skip
    models.save_model(transformers.XmodModel, config, tmp_path / "m")
    models.save_tokenizer(words, tmp_path / "m", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    with pytest.raises(ModelUnavailable, match=r"XmodModel fails at a first text .*serve it"):
        opened(tmp_path / "m")


@pytest.mark.parametrize(
    "name", ["multi-qa-mpnet-base-dot-v1", "msmarco-bert-base-dot-v5", "msmarco-distilbert-base-tas-b"]
)
def test_a_model_trained_by_dot_product_is_compared_so_though_its_files_do_not_say_so(
    name: str, model_root: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    families.write_modules(folder, ["Transformer", "Pooling"])
    by_id = read_info(folder, model=f"sentence-transformers/{name}")
    (folder / "README.md").write_text(f"# {name}\n")
    by_card = read_info(folder, model=str(folder))
    assert [(each.distance, each.normalize) for each in (by_id, by_card)] == [(Distance.DOT, False)] * 2
    configured(folder, similarity_fn_name="cosine")
    said = read_info(folder, model=str(folder))
    assert (said.distance, said.normalize) == (Distance.COSINE, True)


@pytest.mark.parametrize("name", ["multi-qa-mpnet-base-cos-v1", "msmarco-MiniLM-L6-cos-v5", "all-MiniLM-L6-v2"])
def test_other_models_are_compared_by_cosine(name: str, model_root: Path) -> None:
    assert read_info(model_root / "bert", model=f"sentence-transformers/{name}").distance is Distance.COSINE


def test_an_euclidean_model_keeps_its_lengths(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    families.write_modules(folder, ["Transformer", "Pooling"])
    update(folder / "config_sentence_transformers.json", similarity_fn_name="euclidean")
    recipe = read_recipe(folder, model="m")
    assert (recipe.info.distance, recipe.info.normalize) == (Distance.EUCLID, False)
