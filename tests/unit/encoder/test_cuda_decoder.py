"""A decoder's layer as a card runs it, on a processor: nothing in memory twice, and nothing half swapped."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from gristmill_schemas import Pooling
from gristmill_worker.encoder.local.cuda.attention import Kernel
from gristmill_worker.encoder.local.cuda.decoder import Started, fuse
from gristmill_worker.encoder.local.cuda.kernels import Heads, Norms, TorchKernels
from gristmill_worker.encoder.local.forward import PackedForward

from .decoders import FAMILIES, decoder, states


@pytest.mark.parametrize("biased", ["Llama", "Qwen3"])
def test_products_with_a_bias_are_joined_with_it(biased: str) -> None:
    model = decoder(biased, attention_bias=True)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    expected = states(model)
    fuse(model)
    torch.testing.assert_close(states(model), expected, rtol=1e-5, atol=1e-5)


def test_joint_weights_are_in_memory_once() -> None:
    model = decoder("Qwen3")
    first = model.layers[0].self_attn.q_proj
    fuse(model)
    joint = model.layers[0]._projections._weight
    assert first.weight.untyped_storage().data_ptr() == joint.untyped_storage().data_ptr()


def test_a_row_is_rotated_in_place_and_its_values_are_left_alone() -> None:
    heads = Heads(queries=4, keys=2, size=8)
    rows, (cos, sin) = torch.randn(5, 64), torch.randn(2, 5, 8)
    before, norms = rows.clone(), Norms(torch.rand(8), torch.rand(8), 1e-6)
    TorchKernels().rotate_(rows, cos, sin, heads, norms)
    assert torch.equal(rows[:, 48:], before[:, 48:])
    key = before[:, 40:48]
    normed = key / (key.square().mean(1, keepdim=True) + 1e-6).sqrt() * norms.key
    turned = normed * cos + torch.cat((-normed[:, 4:], normed[:, :4]), 1) * sin
    torch.testing.assert_close(rows[:, 40:48], turned)


def test_a_model_of_which_a_part_has_no_twin_after_all_is_left_as_it_was() -> None:
    model = decoder("Qwen3")
    layers = list(model.layers)
    expected = states(model)
    model.layers[1].mlp.down_proj.weight = None
    with pytest.raises(AttributeError):
        fuse(model)
    assert list(model.layers) == layers
    model.layers[1].mlp.down_proj.weight = decoder("Qwen3").layers[1].mlp.down_proj.weight
    torch.testing.assert_close(states(model), expected, rtol=0, atol=0)


def _one_by_one(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, offsets: torch.Tensor, longest: int, scaling: float,
    causal: bool, sides: tuple[int, int],
) -> torch.Tensor:  # fmt: skip
    """What a card's kernel gives for texts in one row, (sum T, heads, size)."""
    assert longest == offsets.diff().max()
    mixed = []
    for start, end in itertools.pairwise(offsets.tolist()):
        query, key, value = (each[start:end].transpose(0, 1).unsqueeze(0) for each in (q, k, v))
        at = torch.arange(end - start)
        back = at[:, None] - at[None, :]
        seen = (back <= sides[0] if sides[0] >= 0 else back > -len(at)) & (back >= 0 if causal else back < len(at))
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, scale=scaling, enable_gqa=True)
        mixed.append(out[0].transpose(0, 1))
    return torch.cat(mixed)


@pytest.mark.parametrize(
    ("family", "more"),
    [*((family, {}) for family in FAMILIES), ("Mistral", {"sliding_window": 3})],
)
def test_texts_in_one_row_go_to_the_kernel_as_they_lie(family: str, more: dict[str, Any]) -> None:
    model = decoder(family, **more)
    texts = [np.arange(length, dtype=np.int32) for length in (5, 1, 9)]
    forward = PackedForward(model, Pooling.MEAN, torch.device("cpu"))
    with torch.inference_mode():
        expected = forward(texts)
        fuse(model, Started(TorchKernels(), Kernel("one by one", _one_by_one)))
        torch.testing.assert_close(forward(texts), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_starts_no_more_operations_than_it_takes() -> None:
    """Each gives Python's lock away and takes it back, for which a launch waits where other threads are at work."""
    model = decoder("Qwen3")
    fuse(model, Started(_NoKernels(), Kernel("none", lambda q, *_: q.clone())))
    model.layers[1].forward = counted = _Counted(model.layers[1].forward)
    with torch.inference_mode():
        PackedForward(model, Pooling.MEAN, torch.device("cpu"))([np.arange(3, dtype=np.int32)])
    # Two norms, four products, rotation, attention, gate; six views.
    assert counted.names.total() == 15, counted.names


class _NoKernels:
    """One operation each."""

    name = "none"

    def rotate_(self, rows: torch.Tensor, *_: Any) -> None:
        rows.neg_()

    def gate_(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.narrow(rows, 1, 0, rows.shape[1] // 2)


class _Counted(TorchFunctionMode):
    """Calls a function and counts the operations that it has torch do."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._function = function
        self.names: Counter[str] = Counter()

    def __call__(self, *args: Any, **more: Any) -> torch.Tensor:
        with self:
            return self._function(*args, **more)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ not in ("__get__", "__len__"):
            self.names[function.__name__] += 1
        return function(*args, **(kwargs or {}))
