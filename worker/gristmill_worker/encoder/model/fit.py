"""Whether a folder's weights are those of the model that its `config.json` describes.

transformers fills what it does not find with random numbers, and leaves out what it does not know: both open without an
error and give vectors that mean nothing, the same on every worker that is started the same way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.modules import how_to_fetch

#: Keys that a message names.
_SHOWN: Final = 3
#: Tensors of older files that hold no weights: models compute them.
_COMPUTED: Final = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|attn(\.attention)?\.bias|(cos|sin)_cached|_extra_state)$"
)
#: Numbers as weights are stored; others (int8, fp8) mean something only with the scales that a quantiser adds.
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
_WAY_OUT: Final = (
    "Fetch the folder again, with config.json and weights of one model (a model that needs code of its own says so by "
    "auto_map in its config.json); or serve it with a server that runs it and give its URL as the model"
)


def check_fit(folder: Path, model: Any, report: Mapping[str, Any]) -> None:
    """Refuse a model of which a part is not what its files hold.

    Args:
        folder: where its files are, for the message.
        model: as transformers loaded it.
        report: its loading report (`output_loading_info`), mismatched shapes ignored.

    Raises:
        ModelUnavailable: tensors are missing, have other shapes, or belong to layers that the model does not have. What
            does not take part in the vector (a pooler, a head) may be so.
    """
    shapes = {name: (stored, wanted) for name, stored, wanted in report["mismatched_keys"]}
    absent = _of_use(model, {*report["missing_keys"], *shapes})
    if others := sorted(absent & shapes.keys()):
        examples = [f"{name} is {tuple(shapes[name][0])} and not {tuple(shapes[name][1])}" for name in others]
        raise ModelUnavailable(f"{_unlike(folder, model)}: {_some(examples)} of other shapes. {_WAY_OUT}")
    unknown = sorted(name for name in report["unexpected_keys"] if not _COMPUTED.search(name))
    if absent:
        raise ModelUnavailable(
            f"{_unlike(folder, model)}: {_some(sorted(absent))} missing, in whose place there would be random numbers"
            f"{_instead(absent, unknown)}. {_WAY_OUT}"
        )
    if surplus := _of_its_layers(model, unknown):
        raise ModelUnavailable(
            f"{_unlike(folder, model)}: {_some(surplus)} in the files for layers that the model has not, or has without "
            f"these. {_WAY_OUT}"
        )


def check_values(folder: Path, model: Any) -> None:
    """Refuse weights that are damaged: numbers that are none, or zeros where a file was only half fetched.

    Args:
        folder: where its files are, for the message.
        model: as transformers loaded it, on its device.

    Raises:
        ModelUnavailable: a tensor holds NaN or infinite numbers, or the table of tokens or a whole layer is zero. A single
            matrix may be: models are grown by layers that do nothing at first.
    """
    # One pass, a second or less per billion numbers; NaN is both least and greatest. 8-bit numbers have no order in torch.
    ranges = {
        name: [float(end) for end in each.aminmax()]
        for name, each in model.named_parameters()
        if each.is_floating_point() and each.element_size() > 1 and each.numel()
    }
    if odd := sorted(name for name, ends in ranges.items() if not all(map(math.isfinite, ends))):
        raise ModelUnavailable(
            f"{folder}: {_some(odd)} with values that are not numbers: the weights are damaged (fetch them again), or too "
            "large for this number format (set dtype to bfloat16 or float32)"
        )
    table, parts = model.get_input_embeddings().weight, dict[str, list[bool]]()
    for name, each in model.named_parameters():
        if name in ranges and each.ndim > 1 and (each is table or _layers(name)):
            parts.setdefault(_part(name), []).append(ranges[name] == [0, 0])
    if empty := sorted(part for part, zeros in parts.items() if all(zeros)):
        raise ModelUnavailable(
            f"{folder}: {_some(empty)}: all numbers are zero, as in a file that was made and not filled: fetch the weights "
            "again, and compare their size or SHA-256 with the source's"
        )


def check_numbers(folder: Path, config: Mapping[str, Any], files: Collection[Path]) -> None:
    """Refuse weight files that are not there or cut short, or whose numbers need scales that no configuration describes.

    Raises:
        ModelUnavailable: they are.
    """
    from safetensors import SafetensorError, safe_open

    if not files:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        raise ModelUnavailable(
            f"{folder}: expected weights (model.safetensors, pytorch_model.bin, or shards with their index), found none "
            f"among {there}; fetch them. Weights in another format (GGUF, ONNX, TensorFlow) run in a server that reads it: "
            "give its URL as the model (http://HOST/v1#NAME)"
        )
    for path in (file for file in files if file.suffix == ".safetensors"):
        try:
            with safe_open(path, "pt") as file:
                kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # no mapping
        except (SafetensorError, OSError) as error:
            raise ModelUnavailable(
                f"{path}: this is no whole safetensors file ({error}; it holds {path.stat().st_size} bytes)"
                + how_to_fetch(path)
            ) from error
        odd = sorted(name for name, kind in kinds.items() if name.endswith("weight") and kind not in _FLOATS)
        if odd and not config.get("quantization_config"):
            raise ModelUnavailable(
                f"{path}: expected weights as {', '.join(sorted(_FLOATS))}, got {kinds[odd[0]]} ({_some(odd)} so), which "
                f"mean nothing without a quantization_config in config.json. {_WAY_OUT}"
            )


def check_vocabulary(folder: Path, tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer that gives tokens for which the model has no vector: it belongs to another model.

    Args:
        folder: for the message.
        tokenizer: a `tokenizers.Tokenizer`.
        rows: of the model's table of tokens.

    Raises:
        ModelUnavailable: ordinary texts would give such tokens. Special ones do not come from texts.
    """
    if tokenizer.get_vocab_size() <= rows:
        return
    special = {place for place, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    beyond = [text for text, place in tokenizer.get_vocab().items() if place >= rows and place not in special]
    if beyond:
        raise ModelUnavailable(
            f"{folder}: the tokenizer is not the model's: the model has vectors for {rows} tokens, and the tokenizer "
            f"{len(beyond)} more ({', '.join(map(repr, sorted(beyond)[:_SHOWN]))} …). {_WAY_OUT}"
        )


def _of_use(model: Any, names: set[str]) -> set[str]:
    """Those of the named tensors that take part in the states which are pooled: to which the states' gradient leads."""
    import torch

    weights = dict(model.named_parameters())
    known = [name for name in names if name in weights]
    if not known:
        return names
    try:
        with torch.enable_grad():
            states = model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device)).last_hidden_state
            leads = torch.autograd.grad(states.sum(), [weights[name] for name in known], allow_unused=True)
    except Exception:  # noqa: BLE001  # whatever a model raises that lacks a part
        return names
    return names - {name for name, gradient in zip(known, leads, strict=True) if gradient is None}


def _of_its_layers(model: Any, unknown: Collection[str]) -> list[str]:
    """Unknown tensors that lie in a numbered layer such as the model has."""
    prefix = f"{model.base_model_prefix}."
    layers = {_layers(name) for name, _ in model.named_parameters()} - {None}
    return [name for name in unknown if _layers(name.removeprefix(prefix)) in layers]


def _part(name: str) -> str:
    """`encoder.layer.7` of `encoder.layer.7.output.dense.weight`; outside of layers the name itself."""
    return match[0].rstrip(".") if (match := re.match(r".*?\.\d+\.", name)) else name


def _layers(name: str) -> str | None:
    """`encoder.layer` of `encoder.layer.7.output.dense.weight`."""
    return match[1] if (match := re.match(r"(.*?)\.\d+\.", name)) else None


def _unlike(folder: Path, model: Any) -> str:
    return f"{folder}: the weights are not those of the {type(model).__name__} that config.json describes"


def _instead(absent: set[str], unknown: list[str]) -> str:
    """What the files hold for it: the same under a prefix, or something else."""
    if not unknown:
        return ""
    name = min(absent)
    prefix = next((other.removesuffix(name) for other in unknown if other.endswith(f".{name}")), None)
    if prefix and {prefix + each for each in absent} <= {*unknown}:
        return f"; the files hold them under the prefix {prefix!r}: save the model again without it"
    return f"; the files hold {_some(unknown)} instead, which the model does not know"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} … ({len(names)} tensors)"
