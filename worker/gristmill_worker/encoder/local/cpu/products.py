"""CPU: a row of tokens times a layer's weight, by whatever is fastest for that shape on this processor.

Three ways to x W' + b and what follows it, with the share of the ceiling that e5-small reached in float32 on two AVX2 cores
(AMD EPYC, best of seven interleaved passes; with the products of query, key and value joined):

    oneDNN, packed weight, activation inside the product     0.70
    oneDNN, packed weight, activation after it               0.75
    BLAS (MKL), transposed weight, activation after it       0.79

With AVX512, and in bfloat16, the first wins by as much: oneDNN's error function needs the wide registers. So in float32 the
ways are timed where a model is loaded, once per shape, some milliseconds each; elsewhere the first is taken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812  # the name that the whole field uses
from torch import nn

#: The operators behind `torch.compile` on CPU: product with a packed weight, then an activation or a second operand.
_OPS: Final = torch.ops.mkldnn
#: Tokens in a timed product, timings of each way, and how much faster than oneDNN's own another has to be.
_ROWS: Final = 512
_TIMINGS: Final = 6
_WORTH_IT: Final = 0.97


class Product(nn.Module):
    """A Linear for inference, by oneDNN: its weight is stored as that multiplies it. Any leading shape; no gradients."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # Plain attributes and not buffers: nothing may cast or move a packed weight.
        self._packed = _OPS._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x W' + b."""
        out: torch.Tensor = _OPS._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        return out

    def activated(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """f(x W' + b) for `swish` (SiLU) or `gelu` (with the error function)."""
        algorithm = "none" if name == "gelu" else ""
        out: torch.Tensor = _OPS._linear_pointwise(x, self._packed, self._bias, name, [], algorithm)
        return out

    def combined(self, x: torch.Tensor, other: torch.Tensor, operation: str) -> torch.Tensor:
        """(x W' + b) `add` or `mul` other."""
        out: torch.Tensor = _OPS._linear_pointwise.binary(x, other, self._packed, self._bias, operation)
        return out

    def added(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(x W' + b) + other, which nobody else needs any more: the result may take its place."""
        return self.combined(x, other, "add")


class ThenProduct(Product):
    """The same product, and what follows it in a pass of its own, in place."""

    def activated(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """See `Product.activated`."""
        out = self(x)
        return F.silu(out, inplace=True) if name == "swish" else torch.ops.aten.gelu_(out)

    def combined(self, x: torch.Tensor, other: torch.Tensor, operation: str) -> torch.Tensor:
        """See `Product.combined`."""
        out: torch.Tensor = self(x)
        return out.add_(other) if operation == "add" else out.mul_(other)


class BlasProduct(ThenProduct):
    """The product by torch's BLAS, which packs the weight anew each time and still wins on some processors."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self._weight = linear.weight.detach().t().contiguous()
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x W' + b."""
        rows = x.reshape(-1, x.shape[-1])
        out = rows @ self._weight if self._bias is None else torch.addmm(self._bias, rows, self._weight)
        return out.view(*x.shape[:-1], out.shape[-1])

    def combined(self, x: torch.Tensor, other: torch.Tensor, operation: str) -> torch.Tensor:
        """See `Product.combined`. A sum is what BLAS starts from instead of zeros."""
        if operation != "add":
            return super().combined(x, other, operation)
        rows, start = x.reshape(-1, x.shape[-1]), other.reshape(-1, other.shape[-1])
        if self._bias is None:
            out = torch.addmm(start, rows, self._weight)
        else:
            out = (start + self._bias).addmm_(rows, self._weight)
        return out.view(other.shape)

    def added(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """See `Product.added`. The sum grows in place: no copy to start from."""
        start = other if self._bias is None else other.add_(self._bias)
        start.view(-1, other.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), self._weight)
        return start


_WAYS: Final = (Product, ThenProduct, BlasProduct)


def product(linear: nn.Linear, then: str = "none") -> Product:
    """The fastest twin of a Linear.

    Args:
        linear: float32 or bfloat16.
        then: what it is used for: `none`, `gelu`, `swish`, `add`, `mul`.
    """
    rows, columns = linear.weight.shape
    if linear.weight.dtype is not torch.float32:
        return Product(linear)
    return _fastest(columns, rows, linear.bias is not None, then)(linear)


def weighted(linear: nn.Linear, weight: torch.Tensor) -> nn.Linear:
    """A Linear that gives of x what the original gives of x * weight, (inputs,)."""
    twin = nn.Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
    twin.weight = nn.Parameter(linear.weight.detach() * weight, requires_grad=False)
    twin.bias = linear.bias
    return twin


@lru_cache
def _fastest(inputs: int, outputs: int, bias: bool, then: str) -> type[Product]:
    linear = nn.Linear(inputs, outputs, bias)
    # What follows a product in a pass of its own makes a difference only where something follows.
    kinds = [way for way in _WAYS if then != "none" or way is not ThenProduct]
    ways = [kind(linear) for kind in kinds]
    x, other = torch.randn(_ROWS, inputs), torch.randn(_ROWS, outputs)
    best = [float("inf")] * len(ways)
    with torch.inference_mode():
        for _ in range(_TIMINGS):  # in turn, so that a busy moment meets them all; the first warms up
            best = [min(known, _seconds(way, x, other, then)) for known, way in zip(best, ways, strict=True)]
    winner = min(range(len(ways)), key=best.__getitem__)
    return kinds[winner] if best[winner] < _WORTH_IT * best[0] else kinds[0]


def _seconds(way: Product, x: torch.Tensor, other: torch.Tensor, then: str) -> float:
    """Of this thread's own time: no neighbour can lengthen it, and waiting for other threads spins, so it counts."""
    started = time.thread_time()
    if then in ("gelu", "swish"):
        way.activated(x, then)
    elif then in ("add", "mul"):
        way.combined(x, other, then)
    else:
        way(x)
    return time.thread_time() - started


class Joint:
    """Several products of one and the same row, computed as one: a taller weight is multiplied more efficiently."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        weights = [each.weight.detach() for each in linears]
        biases = [each.bias.detach() for each in linears if each.bias is not None]
        tall = nn.Linear(linears[0].in_features, sum(map(len, weights)), bool(biases), device="meta")
        tall.weight = nn.Parameter(torch.cat(weights), requires_grad=False)
        if biases:
            tall.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
        self._product = product(tall)
        self._sizes = [each.out_features for each in linears]

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Each x W' + b, a view into the joint product."""
        return self._product(x).split(self._sizes, -1)  # type: ignore[no-any-return]  # torch's stub
