"""CUDA: a decoder's layer (Qwen, Llama, Mistral) with fewer passes over its rows and fewer kernels. Same mathematics.

Query, key and value are one product, so are gate and up; residual sums are what a product starts from; norms are torch's
fused ones; what is between stands in `kernels`. Ten kernels a layer instead of about forty-five, of which a card starts one
in some microseconds: what a lone query waits for. Joint weights take the place of the originals, which become views of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that the whole field uses
from torch import nn

from gristmill_worker.encoder.local.cuda.chosen import kernels
from gristmill_worker.encoder.local.cuda.kernels import Heads, Norms
from gristmill_worker.encoder.local.decoders import Attention, is_gated_mlp, is_layer, is_rms_norm
from gristmill_worker.encoder.local.swapping import Undo, swap


def fuse(model: nn.Module) -> Undo:
    """Swap decoder layers and norms, in place; a model without any is left as it is.

    Returns:
        A call that puts the original modules back.
    """
    return swap(model, lambda parent: {name: twin for name, child in parent.named_children() if (twin := _twin(child))})


def _twin(module: nn.Module) -> nn.Module | None:
    if is_decoder_layer(module):
        return DecoderLayer(module)
    return RmsNorm(module) if is_rms_norm(module) else None


def is_decoder_layer(module: nn.Module) -> bool:
    """Whether `DecoderLayer` can stand for a module: transformers' own, of plain weights, all of it as it is made there."""
    if not is_layer(module):
        return False
    linears = [each for each in module.modules() if isinstance(each, nn.Linear)]
    return all(type(each) is nn.Linear for each in linears) and any(map(is_gated_mlp, module.children()))


class RmsNorm(nn.Module):
    """x / rms(x) * weight, in one pass."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self._weight, self._eps = norm.weight.detach(), float(norm.variance_epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, H) to (…, H)."""
        return F.rms_norm(x, self._weight.shape, self._weight, self._eps)


class Product:
    """x W' + b, of one Linear or of several that see the same row."""

    def __init__(self, linears: Sequence[Any]) -> None:
        """Join the weights; those of the originals become views, so that memory is taken once."""
        self._weight = _joined(linears, "weight")
        self._bias = _joined(linears, "bias") if any(each.bias is not None for each in linears) else None

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(T, inputs) to (T, outputs)."""
        return F.linear(rows, self._weight, self._bias)

    def add_to(self, sums: torch.Tensor, rows: torch.Tensor) -> None:
        """Add the product of (T, inputs) to (T, outputs), in place."""
        if self._bias is not None:
            sums.add_(self._bias)
        sums.addmm_(rows, self._weight.t())


def _joined(linears: Sequence[Any], name: str) -> torch.Tensor:
    if len(linears) == 1:
        whole: torch.Tensor = getattr(linears[0], name).detach()
        return whole
    parts = [
        torch.zeros(each.out_features, dtype=each.weight.dtype, device=each.weight.device)
        if getattr(each, name) is None
        else getattr(each, name).detach()
        for each in linears
    ]
    whole = torch.cat(parts)
    for each, part in zip(linears, torch.split(whole, [len(part) for part in parts]), strict=True):
        if getattr(each, name) is not None:
            getattr(each, name).data = part
    return whole


class DecoderLayer(nn.Module):
    """h + attention(norm(h)), and what comes of it plus its own mlp(norm(h))."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        size = int(attention.head_dim)
        self._heads = Heads(attention.q_proj.out_features // size, attention.k_proj.out_features // size, size)
        self._before, self._between = RmsNorm(layer.input_layernorm), RmsNorm(layer.post_attention_layernorm)
        self._projections = Product((attention.q_proj, attention.k_proj, attention.v_proj))
        self._norms = (
            Norms(attention.q_norm.weight.detach(), attention.k_norm.weight.detach(), attention.q_norm.variance_epsilon)
            if hasattr(attention, "q_norm")
            else None
        )
        self._mixed = Product((attention.o_proj,))
        self._gate_and_up, self._down = Product((mlp.gate_proj, mlp.up_proj)), Product((mlp.down_proj,))
        self._kernels = kernels(attention.q_proj.weight.device, attention.q_proj.weight.dtype)
        self._attend = Attention(attention)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        **more: Any,
    ) -> torch.Tensor:
        """One layer.

        Args:
            hidden_states: (B, T, H); the result takes its place.
            position_embeddings: cosines and sines, (B or 1, T, size) each.
            attention_mask: for the attention function, as is what else the layer is called with.
            more: see there.

        Returns:
            (B, T, H).
        """
        sums = hidden_states.view(-1, hidden_states.shape[-1])
        self._add_attention(sums, hidden_states.shape[:-1], position_embeddings, attention_mask, **more)
        self._down.add_to(sums, self._kernels.gate_(self._gate_and_up(self._between(sums))))
        return hidden_states

    def _add_attention(
        self,
        sums: torch.Tensor,
        texts: torch.Size,
        turns: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        **more: Any,
    ) -> None:
        # A method of its own, so that queries, keys and values are gone before the gate needs room.
        heads = self._heads
        cos, sin = (each.expand(*texts, -1).reshape(-1, heads.size) for each in turns)
        joint = self._projections(self._before(sums))
        self._kernels.rotate_(joint, cos, sin, heads, self._norms)
        parts = joint.view(*texts, -1, heads.size)
        q, k, v = torch.split(parts, [heads.queries, heads.keys, heads.keys], 2)
        mixed = self._attend(q, k, v, attention_mask, **more)
        self._mixed.add_to(sums, mixed.reshape(len(sums), -1))
