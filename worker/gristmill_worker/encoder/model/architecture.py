"""What transformers, as installed here, knows of the architecture that a folder's `config.json` names: whether it performs
it, and what it takes for granted."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.modules import WAY_OUT

#: Types that began as code of a model's own, and which transformers has since taken over under that code's name. Other
#: types say nothing when a folder brings code: gte-Qwen2's code calls itself qwen2, and looks to both sides.
_TAKEN_OVER: Final = frozenset({"eurobert", "gte", "jina_embeddings_v3", "nomic_bert"})
#: What nomic_bert's own code called its settings, and transformers' names for them. transformers reads its own names only,
#: and takes the first model's numbers for the others.
_NOMIC_NAMES: Final = {
    "n_embd": ("hidden_size", 768),
    "n_layer": ("num_hidden_layers", 12),
    "n_head": ("num_attention_heads", 12),
    "n_inner": ("intermediate_size", 3072),
    "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
    "rotary_emb_base": ("rope_theta", 1000),
}
#: What nomic_bert's own code could do otherwise, and transformers' does so.
_NOMIC_WAYS: Final = {
    "activation_function": "swiglu",
    "causal": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "moe_every_n_layers": 0,
    "num_experts": 0,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "use_rms_norm": False,
}


def is_taken_over(config: Mapping[str, Any]) -> bool:
    """Whether transformers itself does what the code of a model's own did, so that none has to run."""
    kind = config.get("model_type")
    return kind in _TAKEN_OVER and _has(str(kind)) and (kind != "nomic_bert" or _is_read_alike(config))


def _has(kind: str) -> bool:
    """Whether the installed transformers has a type, without importing it."""
    spec = find_spec("transformers")
    return bool(spec and spec.origin and (Path(spec.origin).parent / "models" / kind).is_dir())


def _is_read_alike(config: Mapping[str, Any]) -> bool:
    rope = config.get("rope_parameters") or config
    said = {**config, "rope_theta": rope.get("rope_theta")}
    alike = (config[old] == (said.get(new) or usual) for old, (new, usual) in _NOMIC_NAMES.items() if config.get(old))
    return all(alike) and all(config[key] in (way, None) for key, way in _NOMIC_WAYS.items() if key in config)


def check_known(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model of a type, or of numbers in a format, that the installed transformers does not know.

    Args:
        folder: where its files are, for the message.
        config: its `config.json`.

    Raises:
        ModelUnavailable: it does not. Of an unknown format it would leave the numbers as they lie there, which mean nothing.
    """
    from transformers import CONFIG_MAPPING
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    kind, here = config.get("model_type"), f"transformers {version('transformers')}, which is installed here,"
    if kind not in CONFIG_MAPPING:
        raise ModelUnavailable(
            f"{folder / 'config.json'}: model_type: expected one that transformers knows, got {kind!r}, and {here} does "
            "not. Where the model is newer: pip install --upgrade transformers. Where its repository has code for it (.py "
            "files): read that, put it into the folder, and allow it with trust_remote_code "
            f"(GRISTMILL_TRUST_REMOTE_CODE=true). Else {WAY_OUT}"
        )
    if (said := config.get("quantization_config")) is None:
        return
    # bitsandbytes is one name in a configuration, and in transformers bitsandbytes_4bit and _8bit.
    method = said.get("quant_method")
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING and f"{method}_4bit" not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ModelUnavailable(
            f"{folder / 'config.json'}: quantization_config: quant_method: expected one that transformers knows, got "
            f"{method!r}, and {here} does not. Take the model's weights that are not quantised; or {WAY_OUT}"
        )


def without_defaults(config: Mapping[str, Any], *, own: bool = False) -> dict[str, Any]:
    """A configuration without what would be the same if it were left out: a default, or what follows from other settings.

    Each setting is left out in turn, and stays out where transformers then makes the same of the rest. So what is left
    still says all of it, and a setting that transformers does not know stays, if it says something.

    Args:
        config: without what decides nothing.
        own: code of the model's own reads it, of whose defaults nothing is known.
    """
    from transformers import CONFIG_MAPPING

    kind = str(config.get("model_type"))
    if own or kind not in CONFIG_MAPPING:
        return without_empty(config)
    made_of = CONFIG_MAPPING[kind]
    try:
        whole, usual = made_of.from_dict({**config}).to_dict(), made_of().to_dict()
    except Exception:  # noqa: BLE001  # settings that contradict each other raise whatever they like; loading will say it
        return without_empty(config)

    def says_all(rest: Mapping[str, Any]) -> bool:
        try:
            made = made_of.from_dict({**rest}).to_dict()
        except Exception:  # noqa: BLE001  # what is left out was needed
            return False
        return without_empty(made, usual) == without_empty(whole, usual)

    # Most at once, since making a configuration takes a millisecond or two.
    fewer = {key: value for key, value in config.items() if key == "model_type" or usual.get(key) != value}
    rest = next(filter(says_all, (without_empty(each, usual) for each in (fewer, config))), dict(config))
    for key in sorted(rest.keys() - {"model_type"}):
        less = {name: value for name, value in rest.items() if name != key}
        rest = less if says_all(less) else rest
    return rest


def without_empty(settings: Mapping[str, Any], usual: Container[str] = ()) -> dict[str, Any]:
    """Settings without the empty ones, which are as good as left out, unless that would mean something `usual`."""
    return {key: value for key, value in settings.items() if value not in (None, {}, [], "") or key in usual}


def tokenizer_defaults(name: str) -> dict[str, Any]:
    """What a tokenizer's class does where its settings do not say so; nothing for a class that is unknown."""
    import transformers

    kind = getattr(transformers, name or "", None)
    said = inspect.signature(kind).parameters.values() if isinstance(kind, type) else ()
    return {each.name: each.default for each in said if each.default is not each.empty}
