"""A decoder's layer as a card runs it, on a processor: nothing in memory twice, and nothing half swapped."""

import pytest
import torch

from gristmill_worker.encoder.local.cuda.decoder import fuse
from gristmill_worker.encoder.local.cuda.kernels import Heads, Norms, TorchKernels

from .decoders import decoder, states


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
