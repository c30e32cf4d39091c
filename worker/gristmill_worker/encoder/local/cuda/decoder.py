"""CUDA: a decoder's layer (Qwen, Llama, Mistral) with fewer passes over its rows and fewer kernels. Same mathematics.

Query, key and value are one product, so are gate and up; residual sums are what a product starts from; norms are torch's
fused ones; what is between stands in `kernels`. Ten kernels a layer instead of about forty-five, of which a card starts one
in some microseconds: what a lone query waits for. Joint weights take the place of the originals, which become views of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that the whole field uses
from torch import nn

from gristmill_worker.encoder.local.cuda.attention import Kernel, varlen_kernel, varlen_rows
from gristmill_worker.encoder.local.cuda.chosen import kernels
from gristmill_worker.encoder.local.cuda.kernels import Heads, Kernels, Norms
from gristmill_worker.encoder.local.decoders import Attention, is_gated_mlp, is_layer, is_rms_norm
from gristmill_worker.encoder.local.layout import PACKED, Layout, seen
from gristmill_worker.encoder.local.swapping import Undo, swap


@dataclass(frozen=True, slots=True)
class Started:
    """What layers have a device do between their products."""

    kernels: Kernels
    #: For texts in one row; None leaves it to the attention function that the model has chosen.
    varlen: Kernel | None


def fuse(model: nn.Module, started: Started | None = None) -> Undo:
    """Swap decoder layers and norms, in place; a model without any is left as it is.

    Args:
        model: on its device.
        started: instead of what the device has for them.

    Returns:
        A call that puts the original modules back.
    """

    def twins(parent: nn.Module) -> dict[str, nn.Module]:
        return {name: twin for name, child in parent.named_children() if (twin := _twin(child, started))}

    return swap(model, twins)


def _twin(module: nn.Module, started: Started | None) -> nn.Module | None:
    if is_decoder_layer(module):
        return DecoderLayer(module, started)
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
        self._turned = self._weight.t()
        self._bias = _joined(linears, "bias") if any(each.bias is not None for each in linears) else None

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(T, inputs) to (T, outputs)."""
        return F.linear(rows, self._weight, self._bias)

    def add_to(self, sums: torch.Tensor, rows: torch.Tensor) -> None:
        """Add the product of (T, inputs) to (T, outputs), in place."""
        if self._bias is not None:
            sums.add_(self._bias)
        sums.addmm_(rows, self._turned)


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
    """h + attention(norm(h)), and what comes of it plus its own mlp(norm(h)).

    Each of torch's operations, views included, gives Python's lock away and takes it back, which costs a launch most where
    other threads want it. So there are no more of them than it takes.
    """

    def __init__(self, layer: Any, started: Started | None = None) -> None:
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
        weight = attention.q_proj.weight
        if started is None:
            started = Started(kernels(weight.device, weight.dtype), varlen_kernel() if weight.is_cuda else None)
        self._kernels, self._varlen = started.kernels, started.varlen
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
        # Turns of one text for several are those of each.
        cos, sin = (
            (each if each.shape[0] == texts[0] else each.expand(*texts, -1)).reshape(-1, heads.size) for each in turns
        )
        joint = self._projections(self._before(sums))
        self._kernels.rotate_(joint, cos, sin, heads, self._norms)
        parts = joint.view(*self._shape(texts, more), -1, heads.size)
        q, k, v = torch.split(parts, [heads.queries, heads.keys, heads.keys], -2)
        if parts.ndim == 3:
            mixed = self._attend_in_row(q, k, v, more["packed"])
        else:
            mixed = self._attend(q, k, v, attention_mask, **more)
        self._mixed.add_to(sums, mixed.reshape(len(sums), -1))

    def _shape(self, texts: torch.Size, more: Mapping[str, Any]) -> Sequence[int]:
        """Of the tokens that attend: one row of all where a kernel takes them so."""
        in_row = self._varlen is not None and isinstance(more.get("packed"), Layout)
        if in_row and self._attend.described.config._attn_implementation == PACKED:
            return (texts.numel(),)
        return texts

    def _attend_in_row(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout) -> torch.Tensor:
        assert self._varlen is not None
        layer = self._attend.described
        causal, window = seen(layer, layout, self._attend.window)
        return varlen_rows(self._varlen, q, k, v, layout.offsets, layout.longest, layer.scaling, causal, window)
