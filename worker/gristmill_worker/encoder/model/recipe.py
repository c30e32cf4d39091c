"""From a model folder to `EncoderInfo`: how texts become input, and token states one vector.

Order of authority: the caller's overrides, the folder's sentence-transformers files (`modules.json`, `1_Pooling`,
`sentence_bert_config.json`, `config_sentence_transformers.json`), the table of families, and last the architecture:
causal decoders pool the last token, all others the mean.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gristmill_schemas import EncoderInfo, Pooling, Templates
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.digest import encoder_digest, model_digest
from gristmill_worker.encoder.model.families import Family, family_of, prefixed

#: transformers' stand-in for "no limit" is 1e30; no embedding model's window comes near this.
_NO_LIMIT: Final = 10_000_000
#: What a folder that says nothing about its window gets.
_DEFAULT_WINDOW: Final = 512
#: These count positions from `pad_token_id + 1`, so their position table is longer than their window.
OFFSET_POSITIONS: Final = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert"})
_POOLING_MODES: Final = {"lasttoken": Pooling.LAST, "mean": Pooling.MEAN, "cls": Pooling.CLS}
_LEGACY_POOLING: Final = {
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
#: Prompt names, best first, as sentence-transformers' encode_query and encode_document look them up.
_QUERY_PROMPTS: Final = ("query", "search_query", "retrieval.query", "s2p_query", "web_search_query")
_DOCUMENT_PROMPTS: Final = ("document", "passage", "search_document", "retrieval.passage", "corpus")
#: `Instruct: <task>\nQuery:` in any of its spellings: the prompt tells that the model follows instructions.
_INSTRUCT_PROMPT: Final = re.compile(r"^(?P<head>Instruct(?:ion)?: ?)(?P<task>.+?)(?P<tail>\n ?Query: ?)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the caller knows better than the folder. None leaves the folder's word."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    templates: Templates | None = None
    instruction_aware: bool | None = None


def read_info(
    folder: Path, *, model: str, revision: str | None = None, overrides: Overrides | None = None
) -> EncoderInfo:
    """Read what a model folder says about itself.

    Args:
        folder: a Hugging Face model folder with at least `config.json`.
        model: the label that people see, a hub id or the folder's name; also used to find the family.
        revision: the hub commit, where known.
        overrides: what wins over the folder.

    Raises:
        ModelUnavailable: the folder lacks a readable `config.json`, or needs steps that Gristmill does not perform.
    """
    chosen = overrides or Overrides()
    config = read_json(folder / "config.json", required=True)
    family = family_of(model) or family_of(str(config.get("_name_or_path", "")))
    steps = _SentenceTransformersFiles.read(folder)
    templates, aware = steps.templates() or _family_templates(family)
    pooling = chosen.pooling or steps.pooling or (family.pooling if family else _pooling_by_architecture(config))
    normalize = steps.normalize if chosen.normalize is None else chosen.normalize
    max_tokens = _window(folder, config, steps, family, chosen.max_tokens)
    return EncoderInfo(
        model=model,
        revision=revision,
        digest=encoder_digest(model_digest(folder), pooling, normalize, max_tokens),
        pooling=pooling,
        dimensions=_hidden_size(config, folder),
        min_dimensions=family.min_dimensions if family else None,
        matryoshka_dimensions=_matryoshka(config, steps.config),
        normalize=normalize,
        max_tokens=max_tokens,
        templates=chosen.templates or templates,
        instruction_aware=aware if chosen.instruction_aware is None else chosen.instruction_aware,
    )


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """A JSON object from a file; an absent optional file is an empty one.

    Raises:
        ModelUnavailable: a required file is absent, or the file is not a JSON object.
    """
    if not path.is_file():
        if required:
            raise ModelUnavailable(f"{path.parent} holds no {path.name}: expected a Hugging Face model folder")
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}: expected readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class _SentenceTransformersFiles:
    """What the sentence-transformers files of a folder say; all empty where there are none."""

    config: dict[str, Any]
    max_tokens: int | None
    pooling: Pooling | None
    normalize: bool

    @classmethod
    def read(cls, folder: Path) -> _SentenceTransformersFiles:
        config = read_json(folder / "config_sentence_transformers.json")
        modules = _modules(folder)
        kinds = {str(module.get("type", "")).rsplit(".", 1)[-1]: module for module in modules}
        if unknown := set(kinds) - {"Transformer", "Pooling", "Normalize", "Dropout"}:
            raise ModelUnavailable(
                f"{folder / 'modules.json'}: Gristmill performs Transformer, Pooling and Normalize, "
                f"and this model also needs {', '.join(sorted(unknown))}; serve it remotely instead"
            )
        pooling = _pooling(folder / str(kinds["Pooling"].get("path", "1_Pooling"))) if "Pooling" in kinds else None
        limit = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
        # Without the files, vectors are normalised: they are meant for cosine. With them, only a model that says it is
        # compared by dot product keeps its lengths.
        keeps_length = bool(modules) and "Normalize" not in kinds and config.get("similarity_fn_name") == "dot"
        return cls(config, int(limit) if limit else None, pooling, not keeps_length)

    def templates(self) -> tuple[Templates, bool] | None:
        """Templates from the prompts, and whether the model follows instructions; None where there are no prompts."""
        prompts = {str(k): str(v) for k, v in (self.config.get("prompts") or {}).items()}
        default = prompts.get(str(self.config.get("default_prompt_name")), "")
        query = next((prompts[name] for name in _QUERY_PROMPTS if name in prompts), default)
        document = next((prompts[name] for name in _DOCUMENT_PROMPTS if name in prompts), default)
        if not query and not document:
            return None
        if found := _INSTRUCT_PROMPT.match(query):
            instructed = f"{found['head']}{{instruction}}{found['tail']}{{text}}"
            plain = prefixed(query, document)
            update = {"query_instructed": instructed, "document_instructed": instructed}
            return Templates(**{**plain.model_dump(), **update}), True
        return prefixed(query, document), False


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}: expected readable JSON: {error}") from error


def _pooling(folder: Path) -> Pooling:
    """What `1_Pooling/config.json` says, in the old spelling (flags) or the new one (`pooling_mode`)."""
    config = read_json(folder / "config.json", required=True)
    said = config.get("pooling_mode") or [mode for flag, mode in _LEGACY_POOLING.items() if config.get(flag)] or "mean"
    modes = [said] if isinstance(said, str) else list(said)
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise ModelUnavailable(
            f"{folder / 'config.json'}: Gristmill pools by last token, mean or cls, and this model wants {modes}"
        )
    return _POOLING_MODES[modes[0]]


def _family_templates(family: Family | None) -> tuple[Templates, bool]:
    return (family.templates, family.instruction_aware) if family else (Templates(), False)


def _pooling_by_architecture(config: dict[str, Any]) -> Pooling:
    names = " ".join(map(str, config.get("architectures") or ()))
    return Pooling.LAST if "CausalLM" in names or _is_decoder(str(config.get("model_type", ""))) else Pooling.MEAN


def _is_decoder(model_type: str) -> bool:
    return any(model_type.startswith(name) for name in ("qwen", "mistral", "llama", "gemma", "phi", "gpt"))


def _hidden_size(config: dict[str, Any], folder: Path) -> int:
    inner = config.get("text_config") or config
    for key in ("hidden_size", "d_model", "dim", "n_embd"):
        if isinstance(inner.get(key), int):
            return int(inner[key])
    raise ModelUnavailable(f"{folder / 'config.json'}: expected hidden_size, found none")


def _matryoshka(config: dict[str, Any], st_config: dict[str, Any]) -> tuple[int, ...]:
    sizes = config.get("matryoshka_dimensions") or st_config.get("matryoshka_dimensions") or ()
    return tuple(sorted(int(size) for size in sizes))


def _window(
    folder: Path, config: dict[str, Any], steps: _SentenceTransformersFiles, family: Family | None, wanted: int | None
) -> int:
    """The longest input: what is asked for or declared, but never more than the model has positions."""
    inner = config.get("text_config") or config
    positions = inner.get("max_position_embeddings") or inner.get("n_positions")
    offset = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    hard = int(positions) - offset if positions else _NO_LIMIT
    tokenizer = read_json(folder / "tokenizer_config.json").get("model_max_length")
    limit = int(tokenizer) if tokenizer and tokenizer < _NO_LIMIT else None
    declared = wanted or steps.max_tokens or limit or (family.max_tokens if family else None)
    if declared is None:
        return hard if hard < _NO_LIMIT else _DEFAULT_WINDOW
    return min(declared, hard)


def write_sentence_transformers(folder: Path, info: EncoderInfo) -> None:
    """Write the files by which sentence-transformers, and `read_info`, know how to run a model.

    Args:
        folder: the model's folder, with configuration, weights and tokenizer in it.
        info: pooling, normalisation, window and templates to write down.
    """
    kinds = ("Transformer", "Pooling", "Normalize")[: 3 if info.normalize else 2]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    mode = next(name for name, pooling in _POOLING_MODES.items() if pooling is info.pooling)
    prompts = {"query": info.templates.query, "document": info.templates.document}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", {"embedding_dimension": info.dimensions, "pooling_mode": mode}),
        ("sentence_bert_config.json", {"max_seq_length": info.max_tokens, "do_lower_case": False}),
        (
            "config_sentence_transformers.json",
            {"prompts": {key: text.removesuffix("{text}") for key, text in prompts.items()}},
        ),
    ):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
