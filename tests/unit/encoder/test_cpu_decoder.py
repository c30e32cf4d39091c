"""A decoder's layer on a CPU: fewer passes over its rows, and which layers are left alone."""

from typing import Any

import pytest
import torch
from torch import nn

from gristmill_worker.encoder.local.cpu import products as cpu_products
from gristmill_worker.encoder.local.cpu.decoder import DecoderLayer, RmsNorm, is_decoder_layer, rotated
from gristmill_worker.encoder.local.cpu.fusing import fuse

from .decoders import decoder


@pytest.mark.parametrize("normed", [True, False])
def test_queries_are_rotated_as_by_transformers(normed: bool) -> None:
    from transformers.models.qwen3 import modeling_qwen3

    torch.manual_seed(0)
    x, cos, sin = torch.randn(2, 5, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    norm: Any = modeling_qwen3.Qwen3RMSNorm(8)
    nn.init.uniform_(norm.weight)
    with torch.inference_mode():
        before = x.clone()
        first = (norm(x) if normed else x).transpose(1, 2)
        expected, _ = modeling_qwen3.apply_rotary_pos_emb(first, first, cos, sin)
        got = rotated(x, cos, sin, RmsNorm(norm) if normed else None)
        torch.testing.assert_close(got.transpose(1, 2), expected)
        torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_a_layer_passes_over_its_rows_as_often_as_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies and products with a weight of the row's width, by BLAS: the residual's start, and nothing else."""
    monkeypatch.setattr(cpu_products, "_fastest", lambda *_: cpu_products.BlasProduct)
    model = decoder("Qwen3")
    fuse(model)
    width, rows = model.config.hidden_size, 26
    with torch.inference_mode():
        x = torch.randn(1, rows, width)
        place = model.rotary_emb(x, torch.arange(rows).unsqueeze(0))
        before = x.clone()
        with torch.profiler.profile(record_shapes=True) as profile:
            model.layers[0](x, position_embeddings=place)
        torch.testing.assert_close(x, before, rtol=0, atol=0, msg="whoever gave the row may still need it")
    passes = [
        event.name
        for event in profile.events()
        if event.name in ("aten::mul", "aten::mul_", "aten::add", "aten::add_", "aten::copy_")
        and event.input_shapes[0][-2:] == [rows, width]
    ]
    assert sorted(passes) == ["aten::copy_", "aten::mul", "aten::mul"]


def test_swapped_layers_hold_no_weight_twice() -> None:
    layer = decoder("Qwen3").layers[0]
    assert is_decoder_layer(layer)
    assert list(DecoderLayer(layer).parameters()) == []


def test_other_number_formats_and_other_layers_of_that_name_are_left_alone() -> None:
    class Qwen3DecoderLayer(nn.Module):
        """Somebody else's."""

    assert not is_decoder_layer(Qwen3DecoderLayer())
    assert not is_decoder_layer(decoder("Qwen3").to(torch.bfloat16).layers[0])
    assert not is_decoder_layer(decoder("Qwen3", hidden_act="gelu").layers[0])
