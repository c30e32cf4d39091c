"""One model, one fingerprint, however it is stored and written; another model, another one."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import families
import models
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.hashing import FileHashes
from gristmill_worker.encoder.model.recipe import read_info

#: Wide enough that samples of the file would miss tensors.
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
SHAPES: dict[str, tuple[Any, Any]] = {
    "BERT": (transformers.BertModel, transformers.BertConfig),
    "BGE-M3": (transformers.XLMRobertaModel, transformers.XLMRobertaConfig),
    "Qwen3": (transformers.Qwen3Model, transformers.Qwen3Config),
}
QUERIES = {
    "BERT": "encoder.layer.1.attention.self.query.weight",
    "BGE-M3": "encoder.layer.1.attention.self.query.weight",
    "Qwen3": "layers.2.self_attn.v_proj.weight",
}


def fingerprint(folder: Path) -> str:
    return read_info(folder, model="m").space().fingerprint


def wide(shape: str, folder: Path) -> Path:
    """A model of some megabytes."""
    tokenizer = models.byte_tokenizer(["<s>", "<pad>", "</s>"], "<s> $A </s>")
    kind, config = SHAPES[shape]
    more = {"num_key_value_heads": 2, "head_dim": 32} if shape == "Qwen3" else {}
    models.save_model(kind, config(vocab_size=tokenizer.get_vocab_size(), pad_token_id=1, **WIDE, **more), folder)
    models.save_tokenizer(tokenizer, folder, pad_token="<pad>", cls_token="<s>", sep_token="</s>", eos_token="</s>")
    models.write_sentence_transformers(folder, 128, "cls", prompts={"query": "query: "})
    return folder


@pytest.fixture(scope="session")
def wides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("wide")
    return {shape: wide(shape, root / shape) for shape in SHAPES}


def trained(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(folder / "model.safetensors")
    assert name in weights
    save_file({**weights, name: change(weights[name])}, folder / "model.safetensors", {"format": "pt"})


def tensors(path: Path) -> list[int]:
    """Where in a safetensors file each tensor's middle is."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    return [start + sum(each["data_offsets"]) // 2 for name, each in header.items() if name != "__metadata__"]


@contextmanager
def flipped(path: Path, place: int) -> Iterator[None]:
    """One bit of a file is another one meanwhile."""
    flip(path, place)
    yield
    flip(path, place)


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        bit = file.read(1)[0] ^ 1
        file.seek(place)
        file.write(bytes([bit]))


def low_rank(weight: torch.Tensor) -> torch.Tensor:
    """A merged LoRA of rank 2."""
    torch.manual_seed(0)
    return weight + torch.randn(weight.shape[0], 2) @ torch.randn(2, weight.shape[1]) * 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_a_merged_lora_is_another_model_than_its_base(shape: str, wides: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(wides[shape], tmp_path / "m")
    trained(copy, QUERIES[shape], low_rank)
    assert fingerprint(copy) != fingerprint(wides[shape])


def test_every_single_tensor_counts(wides: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(wides["Qwen3"], tmp_path / "m")
    seen, places = {fingerprint(copy)}, tensors(copy / "model.safetensors")
    for place in places:
        with flipped(copy / "model.safetensors", place):
            seen.add(fingerprint(copy))
    assert len(seen) == len(places) + 1


def test_a_model_of_which_the_last_layer_was_trained_further_is_another(wides: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(wides["BERT"], tmp_path / "m")
    trained(copy, "encoder.layer.3.attention.output.dense.bias", lambda bias: bias + 0.001)
    assert fingerprint(copy) != fingerprint(wides["BERT"])


def test_of_pickled_weights_every_tensor_counts_too(wides: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(wides["BERT"], tmp_path / "m")
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    before = fingerprint(copy)
    torch.save({**weights, QUERIES["BERT"]: low_rank(weights[QUERIES["BERT"]])}, copy / "pytorch_model.bin")
    assert fingerprint(copy) != before


def test_an_adapter_beside_a_model_is_refused_with_the_way_out(model_root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_root / "bert", tmp_path / "m")
    models.write_json(copy / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "acme/base"})
    with pytest.raises(ModelUnavailable, match="merge it once"):
        fingerprint(copy)


def test_the_layers_after_pooling_are_part_of_the_model(tmp_path: Path) -> None:
    labse = next(family for family in families.FAMILIES if family.name == "LaBSE")
    labse.build(tmp_path / "m")
    before = fingerprint(tmp_path / "m")
    weights = tmp_path / "m" / "2_Dense" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert fingerprint(tmp_path / "m") != before


def said(path: Path, **values: Any) -> None:
    models.write_json(path, {**(json.loads(path.read_text()) if path.is_file() else {}), **values})


def token(text: str, place: int, **flags: bool) -> dict[str, Any]:
    usual = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": place, "content": text, **usual, **flags}


def vocabulary(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    models.write_json(path, content)


CHANGES: dict[str, Callable[[Path], object]] = {
    "positions": lambda f: said(f / "config.json", layer_norm_eps=1e-5),
    "activation": lambda f: said(f / "config.json", hidden_act="relu"),
    "lower case": lambda f: said(f / "sentence_bert_config.json", max_seq_length=256, do_lower_case=True),
    "window": lambda f: said(f / "sentence_bert_config.json", max_seq_length=100),
    "pooling": lambda f: said(f / "1_Pooling/config.json", pooling_mode="cls"),
    "prompts": lambda f: said(f / "config_sentence_transformers.json", prompts={"query": "Frage: "}),
    "cut": lambda f: said(f / "config_sentence_transformers.json", truncate_dim=32),
    "tokenizer's case": lambda f: said(f / "tokenizer_config.json", do_lower_case=True),
    "tokenizer's accents": lambda f: said(f / "tokenizer_config.json", strip_accents=True),
    "separator": lambda f: said(f / "tokenizer_config.json", sep_token="[CLS]"),
    "which end is cut": lambda f: said(f / "tokenizer_config.json", truncation_side="left"),
    "end of text": lambda f: said(f / "tokenizer_config.json", add_eos_token=True),
    "an added token": lambda f: vocabulary(f, lambda v: v["added_tokens"].append(token("<mill>", 400))),
    "an added token's flag": lambda f: vocabulary(f, lambda v: v["added_tokens"][0].update(lstrip=True)),
    "an added token, listed": lambda f: said(f / "tokenizer_config.json", added_tokens_decoder={"400": token("<x>", 400)}),
    "an added token, in an older file": lambda f: said(f / "added_tokens.json", **{"<mill>": 400}),
    "special tokens, in an older file": lambda f: said(f / "special_tokens_map.json", sep_token="[CLS]"),
    "normalizer": lambda f: vocabulary(f, lambda v: v.update(normalizer={"type": "Lowercase"})),
    "merges": lambda f: vocabulary(f, lambda v: v["model"]["merges"].pop()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_that_changes_vectors_changes_the_fingerprint(change: str, model_root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_root / "bert", tmp_path / "m")
    CHANGES[change](copy)
    assert fingerprint(copy) != fingerprint(model_root / "bert")


def rewritten(folder: Path) -> None:
    """Every JSON file with other space and its keys the other way round."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        turned = dict(reversed(content.items())) if isinstance(content, dict) else content
        path.write_text(json.dumps(turned, indent=4, ensure_ascii=False))


def sharded(folder: Path) -> None:
    """The weights in two files, every other tensor in the second, with the index that says so."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for first, name in enumerate(names):
        save_file({key: weights[key] for key in sorted(weights)[first::2]}, folder / name)
    weight_map = {key: names[place % 2] for place, key in enumerate(sorted(weights))}
    models.write_json(
        folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map}
    )


def written_anew(folder: Path) -> None:
    """The same tensors with another header."""
    path = folder / "model.safetensors"
    save_file(load_file(path), path, {"format": "pt", "made_by": "a converter"})


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def left_out(path: Path, *keys: str) -> None:
    content = json.loads(path.read_text())
    models.write_json(path, {key: value for key, value in content.items() if key not in keys})


def flags(folder: Path) -> None:
    (folder / "1_Pooling/config.json").unlink()
    said(folder / "1_Pooling/config.json", word_embedding_dimension=64, pooling_mode_mean_tokens=True)


def moved(folder: Path) -> None:
    (folder / "1_Pooling").rename(folder / "pool")
    path = folder / "modules.json"
    path.write_text(path.read_text().replace("1_Pooling", "pool"))


def aged(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))


SPELLINGS: dict[str, Callable[[Path], object]] = {
    "space and order": rewritten,
    "shards": sharded,
    "another header": written_anew,
    "a pickle of the same tensors": pickled,
    "defaults written out": lambda f: said(
        f / "config.json", hidden_act="gelu", layer_norm_eps=1e-12, is_decoder=False, add_cross_attention=False),
    "defaults left out": lambda f: left_out(
        f / "config.json", "hidden_act", "layer_norm_eps", "type_vocab_size", "max_position_embeddings"),
    "a setting that is empty": lambda f: said(f / "config.json", of_another_tool=None, pruned_heads={}),
    "which end is cut, as usual": lambda f: said(f / "tokenizer_config.json", truncation_side="right"),
    "times": aged,
    "files that nothing reads": lambda f: (f / "README.md").write_text("Hello"),
    "the writing tool": lambda f: said(f / "config.json", transformers_version="0", torch_dtype="float16"),
    "what training reads": lambda f: said(f / "config.json", initializer_range=0.5, hidden_dropout_prob=0),
    "nothing said": lambda f: said(f / "tokenizer_config.json", strip_accents=None, add_eos_token=None),
    "flags of pooling": flags,
    "names of folders": moved,
    "a token with its flags": lambda f: said(f / "tokenizer_config.json", sep_token={"content": "[SEP]", "lstrip": False}),
    "tokens listed again": lambda f: said(
        f / "tokenizer_config.json", added_tokens_decoder={"0": token("[PAD]", 0, special=True)}),
    "tokens in an older file": lambda f: said(f / "special_tokens_map.json", sep_token="[SEP]", cls_token="[CLS]"),
    "padding and cutting, which are ours": lambda f: vocabulary(f, lambda v: v.update(
        truncation={"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0})),
    "a chat template": lambda f: said(f / "tokenizer_config.json", chat_template="{{ x }}", padding_side="left"),
    "a window that is wider than the model's": lambda f: said(f / "tokenizer_config.json", model_max_length=100_000),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_same_in_other_words_is_the_same_model(spelling: str, model_root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_root / "bert", tmp_path / "another-name")
    SPELLINGS[spelling](copy)
    assert fingerprint(copy) == fingerprint(model_root / "bert")


def swapped(folder: Path) -> None:
    """Queries and keys of a layer have each other's weights."""
    path, pair = folder / "model.safetensors", ("query.weight", "key.weight")
    weights = load_file(path)
    one, other = (f"encoder.layer.0.attention.self.{name}" for name in pair)
    save_file({**weights, one: weights[other], other: weights[one]}, path)


def reshaped(folder: Path) -> None:
    path, name = folder / "model.safetensors", "encoder.layer.0.intermediate.dense.weight"
    weights = load_file(path)
    save_file({**weights, name: weights[name].reshape(weights[name].shape[::-1])}, path)


def halved(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize("change", [swapped, reshaped, halved])
def test_the_same_bytes_elsewhere_or_meant_otherwise_are_another_model(
    change: Callable[[Path], None], model_root: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model_root / "bert", tmp_path / "m")
    change(copy)
    assert fingerprint(copy) != fingerprint(model_root / "bert")


def test_what_follows_from_other_settings_may_be_written_out(qwen3: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(qwen3, tmp_path / "m")
    left_out(copy / "config.json", "layer_types", "rope_parameters", "max_window_layers", "tie_word_embeddings")
    said(copy / "config.json", tie_word_embeddings=True, rope_theta=10_000)
    assert fingerprint(copy) == fingerprint(qwen3)


def test_none_is_not_the_default_where_the_default_is_something(tmp_path: Path) -> None:
    families.mistral(tmp_path / "m")
    seen = set()
    for window in ({}, {"sliding_window": None}, {"sliding_window": 16}):
        left_out(tmp_path / "m" / "config.json", "sliding_window")
        said(tmp_path / "m" / "config.json", **window)
        seen.add(fingerprint(tmp_path / "m"))
    assert len(seen) == 3


def test_a_tokenizers_own_defaults_may_be_written_out(model_root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_root / "bert", tmp_path / "m")
    settings = copy / "tokenizer_config.json"
    models.write_json(settings, {"tokenizer_class": "BertTokenizer"})
    before = fingerprint(copy)
    said(settings, do_lower_case=True, strip_accents=None, unk_token="[UNK]", tokenize_chinese_chars=True)
    assert fingerprint(copy) == before
    said(settings, do_lower_case=False)
    assert fingerprint(copy) != before


def test_rotation_is_the_same_beside_each_other_and_in_one_object(qwen3: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(qwen3, tmp_path / "m")
    config = json.loads((copy / "config.json").read_text())
    rope = config.pop("rope_parameters")
    models.write_json(copy / "config.json", {**config, "rope_theta": rope["rope_theta"], "rope_scaling": None})
    assert fingerprint(copy) == fingerprint(qwen3)
    models.write_json(copy / "config.json", {**config, "rope_theta": 7})
    assert fingerprint(copy) != fingerprint(qwen3)


def at_rest(path: Path, size: int = 2 << 20) -> Path:
    """A file that was not touched for a while, by its own clock."""
    path.write_bytes(os.urandom(size))
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are at rest at once."""
    monkeypatch.setattr("gristmill_worker.encoder.model.hashing._AT_REST_NS", -1)


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    file, kept = at_rest(tmp_path / "w"), tmp_path / "cache" / "hashes.json"
    digest = sha256(file.read_bytes()).hexdigest()
    assert FileHashes(kept).of([file]) == [digest]
    other = "ab" * 32
    kept.write_text(kept.read_text().replace(digest, other))
    assert FileHashes(kept).of([file]) == [other], "remembered, not read"
    with file.open("r+b") as stream:
        stream.write(b"other")
    os.utime(file, ns=(0, 0))
    assert FileHashes(kept).of([file]) == [sha256(file.read_bytes()).hexdigest()]


def test_a_file_that_just_changed_is_not_remembered(tmp_path: Path) -> None:
    kept = tmp_path / "hashes.json"
    FileHashes(kept).of([at_rest(tmp_path / "w")])
    assert not kept.exists()


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "broken", ["", "{", "[]", '{"format": 1}', '{"format": 1, "files": {"%s": 7}}', '{"format": 9}']
)
def test_a_broken_memory_is_as_good_as_none(broken: str, tmp_path: Path) -> None:
    file, kept = at_rest(tmp_path / "w"), tmp_path / "hashes.json"
    kept.write_text(broken.replace("%s", str(file)))
    assert FileHashes(kept).of([file]) == [sha256(file.read_bytes()).hexdigest()]
    assert str(file.resolve()) in kept.read_text()


def test_the_hubs_own_digest_is_taken(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("cd" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"not read")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert FileHashes(tmp_path / "hashes.json").of([tmp_path / "model.safetensors"]) == ["cd" * 32]
