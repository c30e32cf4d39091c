"""What a twin of a decoder's layer has to know of transformers' own, whatever device it is for.

Which modules are made alike, and how a layer calls the attention function that its model has chosen.
"""

from __future__ import annotations

import sys
from copy import copy
from typing import Any, Final

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

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


class Attention:
    """Calls an attention function as one of their attention layers does."""

    def __init__(self, layer: Any) -> None:
        """Keep what an attention function may ask of its layer, without the weights."""
        #: What an attention function is told of the layer.
        self.described = copy(layer)
        self.described._modules = {}
        self._eager = sys.modules[type(layer).__module__].eager_attention_forward
        # Mistral has one window for all its layers; in the others each layer has its own, or none.
        for_all = layer.config.sliding_window if type(layer).__name__ == "MistralAttention" else None
        #: Tokens that one sees, itself included; None sees all.
        self.window: int | None = getattr(layer, "sliding_window", for_all)

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, **more: Any
    ) -> torch.Tensor:
        """Mix values.

        Args:
            q: (B, T, heads, size).
            k: (B, T, key heads, size), as `v`.
            v: see there.
            mask: for the attention function, as is what else the layer is called with.
            more: see there.

        Returns:
            (B, T, heads, size).
        """
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.described.config._attn_implementation, self._eager)
        mixed: torch.Tensor = attend(
            self.described,
            *(each.transpose(1, 2) for each in (q, k, v)),
            mask,
            dropout=0.0,
            scaling=self.described.scaling,
            sliding_window=self.window,
            **more,
        )[0]
        return mixed
