"""From a model folder to a recipe: how texts become input, and token states one vector.

Order of authority: the caller's overrides, the folder's sentence-transformers files (`modules.py`), the table of families,
and last the architecture: causal decoders pool the last token, all others the mean. The folder's name has no say: it can be
changed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gristmill_schemas import Distance, EncoderInfo, Pooling, Templates
from gristmill_schemas.errors import GristmillError, ModelUnavailable
from gristmill_worker.encoder.model.code import check_code
from gristmill_worker.encoder.model.digest import encoder_digest, model_digest
from gristmill_worker.encoder.model.families import Family, family_in, family_of
from gristmill_worker.encoder.model.modules import (
    POOLING_MODES,
    Dense,
    Layer,
    LayerNorm,
    Modules,
    Normalize,
    read_json,
    read_modules,
)
from gristmill_worker.encoder.model.prompts import read_templates, with_border

log = logging.getLogger(__name__)

#: transformers' stand-in for "no limit" is 1e30; no embedding model's window comes near this.
_NO_LIMIT: Final = 10_000_000
#: What a folder that says nothing about its window gets.
_DEFAULT_WINDOW: Final = 512
#: Static embeddings have no window; this one is beyond any document.
_STATIC_WINDOW: Final = 1_000_000
#: These count positions from `pad_token_id + 1`, so their position table is longer than their window.
OFFSET_POSITIONS: Final = frozenset(
    {
        "camembert", "data2vec-text", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the caller knows better than the folder. None leaves the folder's word."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_tokens: int | None = None
    templates: Templates | None = None
    instruction_aware: bool | None = None
    #: Whether code that the model brings along may run.
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides how a folder's texts become vectors."""

    info: EncoderInfo
    #: Where the transformer's (or static table's) configuration, weights and tokenizer lie.
    transformer: Path
    #: A table of vectors per token instead of a transformer.
    static: bool = False
    #: What follows pooling; without a last scaling to length 1, which `info.normalize` says.
    layers: tuple[Layer, ...] = ()
    #: How many numbers of each vector are kept; None keeps all.
    keep: int | None = None
    #: Whether text is lowered before it becomes tokens.
    lower_case: bool = False
    #: Whether the tokens of a prompt are pooled like those of the text.
    include_prompt: bool = True
    #: The token that must end each text, where the model pools from it; None leaves what the tokenizer does.
    end: str | None = None
    #: Whether configuration, model or tokenizer are the folder's own code, which may run.
    runs_code: bool = False


def read_recipe(folder: Path, *, model: str, revision: str | None = None, overrides: Overrides | None = None) -> Recipe:
    """Read what a model folder says about itself.

    Args:
        folder: a Hugging Face model folder.
        model: the label that people see, a hub id or the folder's name; a hub id also says the family.
        revision: the hub commit, where known.
        overrides: what wins over the folder.

    Raises:
        ModelUnavailable: the folder lacks a readable `config.json`, or needs steps that Gristmill does not perform.
    """
    try:
        return _recipe(folder, model, revision, overrides or Overrides())
    except GristmillError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(
            f"{folder}: a setting in its JSON files is not of the kind that it should be ({type(error).__name__}: {error}); "
            "compare them with the model's own, or fetch the folder again"
        ) from error


def _recipe(folder: Path, model: str, revision: str | None, chosen: Overrides) -> Recipe:
    modules = read_modules(folder)
    _check_whole(folder, modules.transformer)
    config = read_json(modules.transformer / "config.json", required=not modules.static)
    runs_code = check_code(modules.transformer, model, allowed=chosen.trust_remote_code)
    prompts = read_templates(modules.config)
    family = _family(folder, model, config, has_prompts=prompts is not None or chosen.templates is not None)
    templates, aware = prompts or _family_templates(family)
    pooling = chosen.pooling or modules.pooling or (family.pooling if family else _pooling_by_architecture(config))
    full = _width_after(modules.layers, _hidden_size(config, modules), modules.transformer)
    keep = modules.truncate_dim if (modules.truncate_dim or full) < full else None
    distance = modules.distance or (family.distance if family else Distance.COSINE)
    layers, normalize = _normalization(modules, distance, chosen.normalize, cut=keep is not None)
    max_tokens = _window(config, modules, family, chosen.max_tokens)
    include_prompt = modules.include_prompt and not (family and family.leaves_prompt_out)
    templates = chosen.templates or templates
    end = _end(modules.transformer, family) if pooling is Pooling.LAST else None
    steps = (*map(str, layers), keep, modules.lower_case, include_prompt, end)
    info = EncoderInfo(
        model=model,
        revision=revision,
        digest=encoder_digest(_content(modules, runs_code), pooling, normalize, max_tokens, *steps),
        pooling=pooling,
        dimensions=keep or full,
        min_dimensions=family.min_dimensions if family else None,
        matryoshka_dimensions=_matryoshka(config, modules.config),
        normalize=normalize,
        distance=distance,
        max_tokens=max_tokens,
        templates=templates if include_prompt else with_border(templates),
        instruction_aware=aware if chosen.instruction_aware is None else chosen.instruction_aware,
    )
    return Recipe(
        info=info,
        transformer=modules.transformer,
        static=modules.static,
        layers=layers,
        keep=keep,
        lower_case=modules.lower_case,
        include_prompt=include_prompt,
        end=end,
        runs_code=runs_code,
    )


def _content(modules: Modules, code: bool) -> str:
    weighty = (layer.folder for layer in modules.layers if isinstance(layer, Dense | LayerNorm))
    return model_digest(modules.transformer, weighty, code=code)


def read_info(
    folder: Path, *, model: str, revision: str | None = None, overrides: Overrides | None = None
) -> EncoderInfo:
    """What `read_recipe` says about the model, for all who do not run it."""
    return read_recipe(folder, model=model, revision=revision, overrides=overrides).info


def _check_whole(folder: Path, transformer: Path) -> None:
    for place in (folder, transformer):
        if (place / "adapter_config.json").is_file():
            base = read_json(place / "adapter_config.json").get("base_model_name_or_path", "its base model")
            raise ModelUnavailable(
                f"{place}: this is an adapter of {base}, not a whole model: merge it once (peft: "
                "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(FOLDER)), add the tokenizer's "
                "files, and give that folder; or serve it with a server that loads adapters, and give its URL as the model"
            )


def _family(folder: Path, model: str, config: dict[str, Any], *, has_prompts: bool) -> Family | None:
    """The family by what the model is: its hub id, or what its files call it."""
    is_hub_id = not Path(model).expanduser().is_dir()
    family = (family_of(model) if is_hub_id else None) or family_in(folder, config)
    silent = family is None and not is_hub_id and not has_prompts
    if silent and (sounds := family_of(model)) and sounds.has_prefixes:
        log.warning(
            "%s: the folder's name sounds like a model with prefixes (%r), but no file in it says so, and a name can be "
            "changed: texts get none. Copy the model's README.md into it, or write its prompts into "
            'config_sentence_transformers.json: {"prompts": {"query": …, "document": …}}',
            model,
            sounds.templates.query,
        )
    return family


def _normalization(
    modules: Modules, distance: Distance, wanted: bool | None, *, cut: bool
) -> tuple[tuple[Layer, ...], bool]:
    """The layers without a last scaling, and whether the vectors end at length 1.

    Vectors are scaled: they are meant for cosine. Only a model that says it is compared otherwise keeps its lengths.
    """
    last = bool(modules.layers) and isinstance(modules.layers[-1], Normalize) and not cut
    layers = modules.layers[:-1] if last else modules.layers
    keeps_lengths = distance is not Distance.COSINE and not last
    return layers, (not keeps_lengths) if wanted is None else wanted


def _family_templates(family: Family | None) -> tuple[Templates, bool]:
    return (family.templates, family.instruction_aware) if family else (Templates(), False)


def _pooling_by_architecture(config: dict[str, Any]) -> Pooling:
    inner = config.get("text_config") or config
    if inner.get("use_bidirectional_attention") or inner.get("is_causal") is False:
        return Pooling.MEAN
    names = " ".join(map(str, config.get("architectures") or ()))
    return Pooling.LAST if "CausalLM" in names or _is_decoder(str(config.get("model_type", ""))) else Pooling.MEAN


def _is_decoder(model_type: str) -> bool:
    return any(model_type.startswith(name) for name in ("qwen", "mistral", "llama", "gemma", "phi", "gpt"))


def _end(folder: Path, family: Family | None) -> str | None:
    """The token that a last-token model was trained to pool from, where its files or its family name one."""
    config = read_json(folder / "tokenizer_config.json")
    if family and family.end:
        return family.end
    end = config.get("eos_token")
    return str(end.get("content") if isinstance(end, dict) else end) if end and config.get("add_eos_token") else None


def _hidden_size(config: dict[str, Any], modules: Modules) -> int:
    if modules.static:
        return _static_width(modules.transformer)
    inner = config.get("text_config") or config
    for key in ("hidden_size", "d_model", "dim", "n_embd", "emb_dim"):
        if isinstance(inner.get(key), int):
            return int(inner[key])
    if modules.width:
        return modules.width
    raise ModelUnavailable(f"{modules.transformer / 'config.json'}: expected hidden_size, found none")


def _width_after(layers: tuple[Layer, ...], width: int, before: Path) -> int:
    """Numbers that the layers make of `width` numbers that come from `before`; each must take what the one before gives."""
    for layer in layers:
        if isinstance(layer, Normalize):
            continue
        key, takes = ("in_features", layer.inputs) if isinstance(layer, Dense) else ("dimension", layer.outputs)
        if takes != width:
            raise ModelUnavailable(
                f"{layer.folder / 'config.json'}: {key} is {takes}, and what comes before ({before}) gives {width} numbers: "
                "these are parts of two models; fetch the folder again, with all its modules of one model"
            )
        width, before = layer.outputs, layer.folder
    return width


def _static_width(folder: Path) -> int:
    """The second dimension of the table, out of the weights' header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "model.safetensors", "np") as file:
            name = next(key for key in ("embedding.weight", "embeddings") if key in file.keys())  # noqa: SIM118  # no mapping
            return int(file.get_slice(name).get_shape()[1])
    except (OSError, SafetensorError, StopIteration, IndexError) as error:
        raise ModelUnavailable(
            f"{folder}: expected model.safetensors with a table embedding.weight or embeddings: {error}; fetch it again"
        ) from error


def _matryoshka(config: dict[str, Any], st_config: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = config.get("matryoshka_dimensions") or st_config.get("matryoshka_dimensions") or ()
    return tuple(sorted(int(size) for size in sizes))


def _window(config: dict[str, Any], modules: Modules, family: Family | None, wanted: int | None) -> int:
    """The longest input: what is asked for or declared, but never more than the model has positions."""
    if modules.static:
        return wanted or _STATIC_WINDOW
    inner = config.get("text_config") or config
    # T5 writes down the length that it was trained with, but counts distances: it has no last position.
    counted = None if "t5" in str(config.get("model_type")) else inner.get("n_positions")
    positions = inner.get("max_position_embeddings") or counted
    offset = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    hard = int(positions) - offset if positions else _NO_LIMIT
    tokenizer = read_json(modules.transformer / "tokenizer_config.json").get("model_max_length")
    limit = int(tokenizer) if tokenizer and tokenizer < _NO_LIMIT else None
    declared = wanted or modules.max_tokens or limit or (family.max_tokens if family else None)
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
    mode = next(name for name, pooling in POOLING_MODES.items() if pooling is info.pooling)
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
