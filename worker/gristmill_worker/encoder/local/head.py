"""From a pooled vector to the model's own: the layers after pooling, the cut and the length that its folder asks for.

All of it in float32, whatever the transformer runs in: a few rows by a few thousand numbers cost nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.modules import WAY_OUT, Dense, Layer, LayerNorm
from gristmill_worker.encoder.pooling import unit


class Head(nn.Module):
    """Layers, cut and length, in this order."""

    def __init__(self, layers: tuple[Layer, ...] = (), *, keep: int | None = None, normalize: bool = True) -> None:
        """Load the layers' weights.

        Args:
            layers: what follows pooling.
            keep: the first dimensions that are kept; None keeps all.
            normalize: scale the result to length 1.

        Raises:
            ModelUnavailable: a layer's weights are missing, or are not those that its configuration describes.
        """
        super().__init__()
        self.layers = nn.Sequential(*(_module(layer) for layer in layers)).eval().requires_grad_(False)
        self._keep, self._normalize = keep, normalize

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """float32 (B, H) to (B, D)."""
        vectors: torch.Tensor = self.layers(pooled)[:, : self._keep]
        return unit(vectors) if self._normalize else vectors.contiguous()


class _Unit(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return unit(x)


class _Dense(nn.Module):
    """See `model.modules.Dense`; the names of its parts are those of the weights."""

    def __init__(self, layer: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
        self.activation = _activation(layer)
        projected = layer.residual and layer.inputs != layer.outputs
        self.residual = nn.Linear(layer.inputs, layer.outputs, bias=False) if projected else None
        self._adds_itself = layer.residual and not projected

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.activation(self.linear(x))
        if self._adds_itself:
            return out + x
        return out if self.residual is None else out + self.residual(x)


class _LayerNorm(nn.Module):
    def __init__(self, layer: LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(layer.outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x)
        return out


def _module(layer: Layer) -> nn.Module:
    if isinstance(layer, Dense):
        return _loaded(_Dense(layer), layer.folder)
    if isinstance(layer, LayerNorm):
        return _loaded(_LayerNorm(layer), layer.folder)
    return _Unit()


def _activation(layer: Dense) -> nn.Module:
    where, _, name = layer.activation.rpartition(".")
    try:
        kind = getattr(importlib.import_module(where), name)
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            return kind()
    except (ImportError, AttributeError, TypeError) as error:
        raise _no_activation(layer) from error
    raise _no_activation(layer)


def _no_activation(layer: Dense) -> ModelUnavailable:
    return ModelUnavailable(
        f"{layer.folder / 'config.json'}: activation_function: expected a class of torch.nn that needs no arguments, got "
        f"{layer.activation!r}; {WAY_OUT}"
    )


def _loaded(module: nn.Module, folder: Path) -> nn.Module:
    try:
        module.load_state_dict(weights_of(folder))
    except RuntimeError as error:
        raise ModelUnavailable(f"{folder}: its weights are not those of its config.json: {error}") from error
    return module


def weights_of(folder: Path) -> dict[str, Any]:
    """Tensors by name of a module's folder.

    Raises:
        ModelUnavailable: there are none, or they cannot be read.
    """
    from safetensors.torch import load_file

    try:
        if (folder / "model.safetensors").is_file():
            return load_file(folder / "model.safetensors")
        return dict(torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True))
    except Exception as error:
        raise ModelUnavailable(
            f"{folder}: expected readable weights in model.safetensors or pytorch_model.bin, got {type(error).__name__}: "
            f"{error}; fetch the folder again"
        ) from error
