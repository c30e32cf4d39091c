"""Which modules of transformers' decoders are made alike, so that a twin can stand for them."""

from __future__ import annotations

from typing import Final

from torch import nn

#: Families whose layers are made alike.
_FAMILIES: Final = ("Qwen3", "Qwen2", "Llama", "Mistral")
_LAYERS: Final = tuple(f"{family}DecoderLayer" for family in _FAMILIES)
_NORMS: Final = tuple(f"{family}RMSNorm" for family in _FAMILIES)


def is_rms_norm(module: nn.Module) -> bool:
    """Whether a module is one of their norms."""
    return type(module).__name__ in _NORMS


def is_gated_mlp(module: nn.Module) -> bool:
    """Whether a module is down(silu(gate(x)) * up(x))."""
    parts = {name: type(child).__name__ for name, child in module.named_children()}
    return parts.keys() == {"gate_proj", "up_proj", "down_proj", "act_fn"} and parts["act_fn"].startswith("SiLU")


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of their layers: transformers' own code, not what a model brings along."""
    return type(module).__name__ in _LAYERS and type(module).__module__.startswith("transformers.")
