"""Settings without their spelling: what `config.json` and a tokenizer's files say, the same however they are written.

Left out is what changes with the tool that wrote a file, what training or generation alone reads, and what is absent in
other words. Whatever is unknown counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gristmill_worker.encoder.model.architecture import tokenizer_defaults, without_defaults, without_empty
from gristmill_worker.encoder.model.modules import read_json

#: Keys of config.json that no vector depends on.
_CONFIG_IDLE: Final = frozenset(
    {
        "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "architectures",
        "attn_implementation", "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
        "chunk_size_feed_forward", "classifier_dropout", "decoder_start_token_id", "diversity_penalty",
        "do_sample", "dtype", "early_stopping", "eos_token_id", "finetuning_task", "forced_bos_token_id",
        "forced_eos_token_id", "gradient_checkpointing", "id2label", "initializer_factor", "initializer_range",
        "label2id", "length_penalty", "matryoshka_dimensions", "max_length", "min_length", "name_or_path",
        "num_beams", "output_attentions", "output_hidden_states", "output_past", "prefix", "problem_type",
        "repetition_penalty", "return_dict", "return_dict_in_generate", "suppress_tokens", "task_specific_params",
        "temperature", "top_k", "top_p", "torch_dtype", "torchscript", "transformers_version", "use_cache",
    }
)  # fmt: skip
#: The same of tokenizer_config.json; the window is counted by itself, wherever it stands.
_TOKENIZER_IDLE: Final = frozenset(
    {
        "backend", "chat_template", "clean_up_tokenization_spaces", "is_local", "local_files_only", "max_length",
        "model_input_names", "model_max_length", "name_or_path", "pad_to_multiple_of", "padding", "padding_side",
        "processor_class", "special_tokens_map_file", "stride", "tokenizer_file", "transformers_version",
        "truncation", "truncation_strategy",
    }
)  # fmt: skip
#: What is the same as not being said.
_USUAL: Final[Mapping[str, Any]] = {"split_special_tokens": False, "truncation_side": "right"}
#: Vocabularies of tokenizers without `tokenizer.json`; beside one they are another writing of it.
_VOCABULARIES: Final = ("vocab.*", "merges.txt", "*.model", "*.spm", "*.tiktoken", "bpe.codes", "tekken.json")


def canonical(value: object) -> bytes:
    """JSON that does not depend on the order of keys, on space, or on whether a whole number is written as 1 or 1.0."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def model_settings(config: Mapping[str, Any], *, own: bool = False) -> dict[str, Any]:
    """What of `config.json` decides a vector; of a model of several parts, in each part.

    Args:
        config: its content.
        own: code of the model's own reads it, of whose defaults nothing is known.
    """
    said = {key: value for key, value in config.items() if key not in _CONFIG_IDLE}
    said = {key: value for key, value in said.items() if not key.endswith(("dropout", "_dropout_prob", "_pdrop"))}
    return {
        key: model_settings(value, own=own) if isinstance(value, dict) and "model_type" in value else value
        for key, value in _with_one_rope(without_defaults(said, own=own)).items()
    }


def _with_one_rope(config: dict[str, Any]) -> dict[str, Any]:
    """Rotation written as one object, as transformers 5 does, and not as base and scaling side by side."""
    base, scaling, rope = (config.get(key) for key in ("rope_theta", "rope_scaling", "rope_parameters"))
    if base is None and scaling is None and rope is None:
        return config
    one = {"rope_type": "default", **({"rope_theta": base} if base else {}), **(scaling or {}), **(rope or {})}
    if "type" in one:
        one["rope_type"] = one.pop("type")
    return {
        **{key: value for key, value in config.items() if key not in ("rope_theta", "rope_scaling")},
        "rope_parameters": one,
    }


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """What `tokenizer_config.json` and its older companions add to `tokenizer.json`."""
    said = read_json(folder / "tokenizer_config.json")
    older: dict[str, Any] = {}
    if "added_tokens_decoder" not in said:
        # As transformers does: where the list is there, the older files are not read.
        said |= read_json(folder / "special_tokens_map.json")
        older = read_json(folder / "added_tokens.json")
    known = {token["content"]: token for token in _vocabulary(folder).get("added_tokens") or ()}
    said["added_tokens_decoder"] = _unknown(said.get("added_tokens_decoder") or {}, known)
    # Fast or not: what runs is always the fast kind.
    said["tokenizer_class"] = str(said.get("tokenizer_class") or "").removesuffix("Fast")
    said["added_tokens"] = {text: place for text, place in older.items() if known.get(text, {}).get("id") != place}
    tidy = {key: _token(value) for key, value in said.items() if key not in _TOKENIZER_IDLE}
    usual = {**_USUAL, **tokenizer_defaults(said["tokenizer_class"])}
    return {key: value for key, value in without_empty(tidy, usual).items() if key not in usual or usual[key] != value}


def _unknown(listed: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Listed tokens that are not, in the same way, in `tokenizer.json`."""
    return {
        place: token
        for place, token in listed.items()
        if known.get(str(token.get("content"))) != {"id": int(place), **token}
    }


def _token(value: Any) -> Any:
    """A special token by its text, which may be written alone or with its flags."""
    if isinstance(value, list):
        return [_token(each) for each in value]
    return value["content"] if isinstance(value, dict) and "content" in value else value


def vocabulary_files(folder: Path) -> list[Path]:
    """The files from which a tokenizer is made: `tokenizer.json`, or those from before it."""
    whole = folder / "tokenizer.json"
    return [whole] if whole.is_file() else sorted({path for name in _VOCABULARIES for path in folder.glob(name)})


def vocabulary(path: Path) -> bytes:
    """A vocabulary file's content without its spelling; of `tokenizer.json` without padding and cutting, which are ours."""
    if path.name != "tokenizer.json":
        return path.read_bytes()
    said = read_json(path)
    keeps_end = (said.get("truncation") or {}).get("direction") == "Left"
    return canonical({**said, "padding": None, "truncation": keeps_end, "version": None})


def _vocabulary(folder: Path) -> dict[str, Any]:
    return read_json(folder / "tokenizer.json")
