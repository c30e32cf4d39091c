"""A model whose files do not fit together is refused by what is wrong, and one that only looks odd opens right."""

import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from families import model2vec, static, write_modules
from gristmill_schemas.errors import InvalidInput, ModelUnavailable
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.model.recipe import read_info
from models import byte_tokenizer, save_tokenizer, write_json

Weights = dict[str, torch.Tensor]
CODE = """
from transformers import BertConfig, BertModel

class OtherModel(BertModel):
    config_class = BertConfig

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.last_hidden_state = out.last_hidden_state + 1
        return out
"""


def opened(folder: Path, **options: Any) -> Any:
    return open_encoder(str(folder), device="cpu", dtype="float32", budget_tokens=64, packed=False, **options)


def vector(folder: Path, **options: Any) -> Any:
    encoder = opened(folder, **options)
    return encoder.encode(encoder.tokenize(["The old mill grinds grain."]))[0]


def changed(source: Path, folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A copy of a model with other weights."""
    shutil.copytree(source, folder)
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return folder


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if part not in name}


def under(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def plus(name: str, *shape: int) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: torch.full(shape, 3.0)}


def halved(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: weights[name][: len(weights[name]) // 2].clone()}


def as_type(kind: torch.dtype) -> Callable[[Weights], Weights]:
    return lambda weights: {name: (value * 50).to(kind) for name, value in weights.items()}


ODD = {
    "one layer is missing": ("bert", without("layer.1."), "encoder.layer.1.attention.output.LayerNorm.bias"),
    "one layer of a decoder is missing": ("qwen3", without("layers.0."), "layers.0.input_layernorm.weight"),
    "one tensor is missing": ("bert", without("layer.0.output.dense.bias"), "encoder.layer.0.output.dense.bias missing"),
    "all have other names": ("bert", lambda w: {f"x{n.replace('.', '_')}": v for n, v in w.items()}, "(39 tensors)"),
    "all have a prefix": ("bert", under("0.auto_model."), "under the prefix '0.auto_model.'"),
    "all have another prefix": ("xlm-roberta", under("encoder_q."), "under the prefix 'encoder_q.'"),
    "the vocabulary is smaller": ("bert", halved("embeddings.word_embeddings.weight"), "is (200, 64) and not (400, 64)"),
    "there is a layer more": ("bert", plus("encoder.layer.2.output.dense.weight", 64, 96), "encoder.layer.2"),
    "layers have more than they should": ("qwen3", plus("layers.0.self_attn.q_proj.bias", 64), "q_proj.bias"),
    "adapters were not merged": ("bert", plus("encoder.layer.0.output.adapters.a.down.weight", 8, 64), "adapters"),
    "numbers need a scale": ("bert", as_type(torch.int8), "got I8"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_weights_that_do_not_fit_are_refused_by_name(case: str, model_root: Path, tmp_path: Path) -> None:
    base, change, words = ODD[case]
    folder = changed(model_root / base, tmp_path / "m", change)
    with pytest.raises(ModelUnavailable) as refused:
        opened(folder)
    assert words in str(refused.value)
    assert "Fetch the folder again" in str(refused.value)
    assert "give its URL as the model" in str(refused.value)


FINE: dict[str, tuple[str, Callable[[Weights], Weights]]] = {
    "no pooler": ("bert", without("pooler")),
    "a pooler of another size": ("bert", halved("pooler.dense.weight")),
    "a prefix of its kind": ("bert", under("bert.")),
    "a language model's names": ("qwen3", lambda w: {**under("model.")(w), "lm_head.weight": torch.zeros(400, 64)}),
    "a head for another task": ("xlm-roberta", lambda w: {**under("roberta.")(w), "classifier.bias": torch.zeros(2)}),
    "counted positions": ("bert", plus("embeddings.position_ids", 1, 512)),
    "counted frequencies": ("qwen3", plus("layers.0.self_attn.rotary_emb.inv_freq", 8)),
    "64-bit numbers": ("bert", lambda w: {name: value.double() for name, value in w.items()}),
}


@pytest.mark.parametrize("case", FINE)
def test_what_takes_no_part_in_the_vector_may_be_missing_or_more(case: str, model_root: Path, tmp_path: Path) -> None:
    base, change = FINE[case]
    folder = changed(model_root / base, tmp_path / "m", change)
    np.testing.assert_allclose(vector(folder), vector(model_root / base), atol=1e-6)


def test_a_file_that_is_cut_short_is_refused_by_its_name(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(
        ModelUnavailable, match=r"model\.safetensors: this is no whole safetensors file .* fetch it again"
    ):
        opened(folder)


def shards(folder: Path) -> list[Path]:
    """Split a model's weights in two, with the index that says so."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    files = [folder / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    parts = [names[: len(names) // 2], names[len(names) // 2 :]]
    for file, part in zip(files, parts, strict=True):
        save_file({name: weights[name] for name in part}, file, {"format": "pt"})
    weight_map = {name: file.name for file, part in zip(files, parts, strict=True) for name in part}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return files


def test_shards_are_one_model_and_a_missing_one_is_named(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    files = shards(folder)
    np.testing.assert_array_equal(vector(folder), vector(model_root / "bert"))
    files[1].unlink()
    with pytest.raises(ModelUnavailable, match=files[1].name):
        opened(folder)


@pytest.mark.parametrize("content", [b"", b"no pickle at all", None])
def test_pickled_weights_open_and_broken_ones_are_refused(
    content: bytes | None, model_root: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    if content is None:
        np.testing.assert_array_equal(vector(folder), vector(model_root / "bert"))
        return
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelUnavailable, match="the model cannot be loaded"):
        opened(folder)


def test_a_folder_without_weights_says_so(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors"):
        opened(folder)


def with_code(source: Path, folder: Path, file: str = "config.json", **auto_map: str) -> Path:
    shutil.copytree(source, folder)
    said = json.loads((folder / file).read_text())
    write_json(folder / file, {**said, "auto_map": auto_map})
    (folder / "modeling_other.py").write_text(CODE)
    return folder


@pytest.mark.parametrize(
    ("file", "kind"),
    [("config.json", "AutoModel"), ("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")],
)
def test_code_of_a_models_own_is_refused_by_name(file: str, kind: str, model_root: Path, tmp_path: Path) -> None:
    folder = with_code(model_root / "bert", tmp_path / "m", file, **{kind: "modeling_other.OtherModel"})
    with pytest.raises(
        ModelUnavailable, match=r"modeling_other\.OtherModel.*GRISTMILL_TRUST_REMOTE_CODE=true.*its URL"
    ):
        opened(folder)


def test_code_for_what_does_not_embed_is_no_reason_to_refuse(model_root: Path, tmp_path: Path) -> None:
    folder = with_code(model_root / "bert", tmp_path / "m", AutoModelForMaskedLM="modeling_other.OtherModel")
    np.testing.assert_array_equal(vector(folder), vector(model_root / "bert"))


#: config.json of nomic-ai/nomic-embed-text-v1.5, in the words of its own code, of which transformers reads none.
NOMIC = {
    "activation_function": "swiglu", "architectures": ["NomicBertModel"], "causal": False, "layer_norm_epsilon": 1e-12,
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}, "mlp_fc1_bias": False,
    "mlp_fc2_bias": False, "model_type": "nomic_bert", "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12,
    "n_positions": 8192, "parallel_block": False, "prenorm": False, "qkv_proj_bias": False, "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None, "type_vocab_size": 2, "use_rms_norm": False, "vocab_size": 30528,
}  # fmt: skip


def test_code_that_transformers_has_taken_over_need_not_run(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", NOMIC)
    info = read_info(tmp_path, model="nomic-ai/nomic-embed-text-v1.5")
    assert (info.dimensions, info.max_tokens) == (768, 8192)


def test_a_tokenizers_own_code_is_not_taken_over_with_the_models(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", NOMIC)
    write_json(tmp_path / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "tokens.OwnTokenizer"]}})
    with pytest.raises(ModelUnavailable, match=r"it needs code of its own .*OwnTokenizer"):
        read_info(tmp_path, model="nomic-ai/nomic-embed-text-v1.5")


@pytest.mark.parametrize(
    "other",
    [
        {"n_embd": 1024}, {"n_layer": 6}, {"rotary_emb_base": 10_000}, {"rotary_scaling_factor": 2}, {"num_experts": 8},
        {"activation_function": "gelu"}, {"qkv_proj_bias": True}, {"model_type": "nomic_bert_2"}, {"model_type": "bert"},
    ],
    ids=str,
)  # fmt: skip
def test_code_that_does_more_than_transformers_took_over_is_refused_by_name(
    other: dict[str, Any], tmp_path: Path
) -> None:
    write_json(tmp_path / "config.json", NOMIC | other)
    with pytest.raises(ModelUnavailable, match=r"it needs code of its own .*NomicBertModel"):
        read_info(tmp_path, model="nomic-ai/nomic-embed-text-v1.5")


def test_code_that_is_allowed_runs(model_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "code"))
    folder = with_code(model_root / "bert", tmp_path / "m", AutoModel="modeling_other.OtherModel")
    plain = vector(model_root / "bert")
    assert not np.allclose(vector(folder, trust_remote_code=True), plain, atol=1e-3)


def test_code_of_another_repository_is_refused_since_nothing_pins_it(model_root: Path, tmp_path: Path) -> None:
    folder = with_code(model_root / "bert", tmp_path / "m", AutoModel="acme/code--modeling_other.OtherModel")
    with pytest.raises(ModelUnavailable, match=r"another repository \(acme/code\).*copy that repository's \.py files"):
        opened(folder, trust_remote_code=True)


@pytest.mark.parametrize("revision", [None, "main", "v1.5", "c54f2e6"])
def test_code_from_the_hub_is_held_to_one_commit(revision: str | None) -> None:
    with pytest.raises(InvalidInput, match="expected the commit of acme/other"):
        open_encoder("acme/other", revision=revision, trust_remote_code=True)


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def without_words(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')


def with_more_words(folder: Path) -> None:
    words = byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")
    words.add_tokens(["mill", "grain"])
    save_tokenizer(words, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


def said(file: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        write_json(folder / file, {**content, **values})

    return change


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:9f86d0\nsize 471\n"


def lfs(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(LFS)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no window": (said("sentence_bert_config.json", max_seq_length=0), "max_seq_length: .*, got 0; set it"),
    "a negative window": (said("sentence_bert_config.json", max_seq_length=-5), "max_seq_length: .*, got -5; set it"),
    "a window without room for text": (
        said("sentence_bert_config.json", max_seq_length=2), "2 tokens leaves no room .* 2 special ones; set"),
    "a prompt with a placeholder": (
        said("config_sentence_transformers.json", prompts={"query": "find {text}: "}), "prompts: query: .*take them out"),
    "weights that Git LFS did not fetch": (lfs("model.safetensors"), r"no whole safetensors .*git lfs pull"),
    "a tokenizer that Git LFS did not fetch": (lfs("tokenizer.json"), r"tokenizer\.json: expected readable.*git lfs pull"),
    "a page instead of settings": (lambda f: (f / "config.json").write_text("<html>"), "readable JSON: .*; fetch it again"),
    "no settings of pooling": (lambda f: shutil.rmtree(f / "1_Pooling"), r"1_Pooling holds no config\.json.*fetch it again"),
    "no tokenizer": (without_tokenizer, "expected a tokenizer"),
    "a tokenizer of another model": (with_more_words, r"vectors for 400 tokens, and the tokenizer 2 more \('grain', 'mill'"),
    "a tokenizer without a model": (without_words, "its tokenizer cannot be loaded"),
    "a list of tokens that is none": (said("tokenizer_config.json", added_tokens_decoder=["a"]), "a setting in its JSON"),
    "a window in words": (said("sentence_bert_config.json", max_seq_length="long"), "a setting in its JSON .*'long'"),
    "positions in words": (said("config.json", max_position_embeddings="many"), "a setting in its JSON .*'many'"),
    "code in words": (said("config.json", auto_map="mine"), "a setting in its JSON"),
    "prompts in a list": (said("config_sentence_transformers.json", prompts=["query: "]), "a setting in its JSON"),
    "a width in words": (said("config.json", hidden_size="64"), "hidden_size"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_with_broken_parts_is_refused_by_what_is_wrong(case: str, model_root: Path, tmp_path: Path) -> None:
    change, words = BROKEN[case]
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    change(folder)
    with pytest.raises(ModelUnavailable, match=words):
        opened(folder)


def times(factor: float, *parts: str) -> Callable[[Weights], Weights]:
    """Weights of which those with one of the parts in their names are multiplied."""
    return lambda weights: {
        name: value * (factor if any(part in name for part in parts) else 1) for name, value in weights.items()
    }


def with_one(name: str, value: float) -> Callable[[Weights], Weights]:
    def change(weights: Weights) -> Weights:
        weights[name][-1, 3] = value
        return weights

    return change


DAMAGED: dict[str, tuple[str, Callable[[Weights], Weights], str]] = {
    "nothing but NaN": ("bert", times(float("nan"), ""), "values that are not numbers"),
    "one NaN in a token that is rare": ("qwen3", with_one("embed_tokens.weight", float("nan")), "embed_tokens.weight with"),
    "one infinity far beyond the first texts": (
        "bert", with_one("embeddings.position_embeddings.weight", float("inf")), "position_embeddings.weight with"),
    "a placeholder of zeros": ("bert", times(0, ""), "encoder.layer.0, encoder.layer.1: all numbers are zero"),
    "a placeholder of zeros for a decoder": ("qwen3", times(0, ""), "layers.0, layers.1: all numbers are zero"),
    "a layer of zeros": ("bert", times(0, "layer.1."), "encoder.layer.1: all numbers are zero"),
    "a layer of zeros around which its input flows": ("qwen3", times(0, "layers.1."), "layers.1: all numbers are zero"),
    "a table of zeros": ("bert", times(0, "word_embeddings"), "word_embeddings.weight: all numbers are zero"),
    "a placeholder of ones": ("bert", lambda w: {n: torch.ones_like(v) for n, v in w.items()}, "the same vector"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_weights_are_refused(case: str, model_root: Path, tmp_path: Path) -> None:
    base, change, words = DAMAGED[case]
    folder = changed(model_root / base, tmp_path / "m", change)
    with pytest.raises(ModelUnavailable) as refused:
        opened(folder)
    assert words in str(refused.value)
    assert "fetch" in str(refused.value)


def test_a_file_of_which_only_the_first_half_arrived_is_refused(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    content = (folder / "model.safetensors").read_bytes()
    half = len(content) // 2
    (folder / "model.safetensors").write_bytes(content[:half] + bytes(len(content) - half))
    with pytest.raises(ModelUnavailable, match=r"encoder\.layer\.1: all numbers are zero"):
        opened(folder)


def test_a_layer_that_does_nothing_yet_is_no_damage(model_root: Path, tmp_path: Path) -> None:
    opened(
        changed(model_root / "qwen3", tmp_path / "m", times(0, "layers.1.self_attn.o_proj", "layers.1.mlp.down_proj"))
    )


def no_weights(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "an unknown type": (
        said("config.json", model_type="superbert"),
        rf"model_type: .*'superbert', and transformers {re.escape(version('transformers'))}.*pip install --upgrade "
        "transformers.*GRISTMILL_TRUST_REMOTE_CODE=true",
    ),
    "no type": (said("config.json", model_type=None), "model_type: .*got None"),
    "an unknown quantisation": (
        said("config.json", quantization_config={"quant_method": "shrink", "bits": 3}),
        "quant_method: .*'shrink', and transformers .*not quantised",
    ),
    "a quantisation without a name": (said("config.json", quantization_config={"bits": 3}), "quant_method: .*got None"),
    "a quantisation whose package is missing": (
        said("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "ImportError: .*optimum"),
    "an activation that nobody knows": (said("config.json", hidden_act="snake"), "cannot be loaded .*snake"),
    "TensorFlow's weights": (no_weights("tf_model.h5"), "expected weights .*found none among .*tf_model.h5"),
    "weights under another name": (no_weights("weights.safetensors"), "expected weights .*weights.safetensors"),
    "a GGUF beside the configuration": (no_weights("model-q4_k_m.gguf"), "expected weights .*GGUF"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_transformers_cannot_load_is_refused_with_the_way_out(case: str, model_root: Path, tmp_path: Path) -> None:
    change, words = UNREADABLE[case]
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    change(folder)
    with pytest.raises(ModelUnavailable, match=words) as refused:
        opened(folder)
    assert "give its URL as the model" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["model.gguf", "model.onnx"])
def test_a_folder_of_another_format_alone_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelUnavailable, match=rf"holds no config\.json \(but {name}\).*give its URL as the model"):
        opened(tmp_path)


def test_an_index_that_names_nothing_is_refused(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": {}})
    with pytest.raises(ModelUnavailable, match=r"index\.json: expected weight_map.*fetch it again"):
        opened(folder)


class Runs:
    """Code in a pickled file."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_pickled_code_does_not_run_and_nobody_is_told_to_let_it(
    model_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    torch.save({**load_file(folder / "model.safetensors"), "x": Runs()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="holds more than tensors, which could run as code") as refused:
        opened(folder)
    assert "weights_only" not in str(refused.value)
    assert not (tmp_path / "ran").exists()


DENSE = {"in_features": 64, "out_features": 48, "bias": True}
PARTS: dict[str, tuple[list[tuple[str, dict[str, Any]]], str]] = {
    "a Dense for another width": (
        [("Dense", {**DENSE, "in_features": 32})], r"2_Dense/config\.json: in_features is 32, .*/m\) gives 64 numbers"),
    "a second Dense that does not follow the first": (
        [("Dense", DENSE), ("Dense", DENSE)], r"3_Dense/config\.json: in_features is 64, .*2_Dense\) gives 48 numbers"),
    "scaling between them changes nothing": (
        [("Dense", DENSE), ("Normalize", {}), ("Dense", DENSE)], r"4_Dense/config\.json: .*2_Dense\) gives 48 numbers"),
    "a layer norm for another width": (
        [("LayerNorm", {"dimension": 32})], r"2_LayerNorm/config\.json: dimension is 32, .*/m\) gives 64 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", PARTS)
def test_modules_that_do_not_follow_each_other_are_refused_by_both(case: str, model_root: Path, tmp_path: Path) -> None:
    modules, words = PARTS[case]
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    write_modules(folder, ["Transformer", "Pooling", *(kind for kind, _ in modules)])
    for place, (kind, settings) in enumerate(modules, 2):
        write_json(folder / f"{place}_{kind}" / "config.json", settings)
    with pytest.raises(ModelUnavailable, match=words + ".*fetch the folder again"):
        read_info(folder, model="m")


def test_a_dense_of_zeros_is_refused(model_root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_root / "bert", tmp_path / "m")
    write_modules(folder, ["Transformer", "Pooling", "Dense"])
    write_json(folder / "2_Dense" / "config.json", DENSE)
    zeros = {"linear.weight": torch.zeros(48, 64), "linear.bias": torch.zeros(48)}
    save_file(zeros, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="6 different texts the same vector"):
        opened(folder)


def test_static_embeddings_of_which_rows_are_missing_are_refused(tmp_path: Path) -> None:
    model2vec(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    stored = load_file(path)
    save_file({**stored, "embeddings": stored["embeddings"][:60].clone()}, path)
    with pytest.raises(ModelUnavailable, match=r"mapping names row 63 of 60 embeddings.*fetch the folder again"):
        opened(tmp_path / "m")


def test_static_embeddings_of_zeros_are_refused(tmp_path: Path) -> None:
    static(tmp_path / "m")
    inner = tmp_path / "m" / "0_StaticEmbedding" / "model.safetensors"
    save_file({name: value * 0 for name, value in load_file(inner).items()}, inner)
    with pytest.raises(ModelUnavailable, match="6 different texts the same vector"):
        opened(tmp_path / "m")
