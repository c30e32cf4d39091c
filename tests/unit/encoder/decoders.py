"""Small decoders of every family that has twins, and what they give."""

from typing import Any

import torch
import transformers
from torch import nn

FAMILIES = ("Qwen3", "Qwen2", "Llama", "Mistral")
SMALL: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
}  # fmt: skip


def decoder(family: str, **more: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SMALL, **more)
    model = getattr(transformers, f"{family}Model")(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:
            nn.init.uniform_(weight, 0.5, 1.5)
    return model


def states(model: Any) -> torch.Tensor:
    ids = torch.arange(26).view(2, 13)
    mask = torch.ones_like(ids)
    mask[0, 9:] = 0
    with torch.inference_mode():
        out: torch.Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return out * mask.unsqueeze(-1)
