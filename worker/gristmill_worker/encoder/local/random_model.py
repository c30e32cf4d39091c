"""`random:qwen3-0.6b[:LAYERS]`: random weights in a real model's exact shape, for benchmarks without the hub.

The weights come from a fixed seed, so two workers that open the same name have the same vectors. They mean nothing.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import torch

from gristmill_schemas import EncoderInfo, Pooling
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder.local.cpu.cores import torch_threads
from gristmill_worker.encoder.model.families import QWEN3_TASK, instruct
from gristmill_worker.encoder.tokenizing import Tokenizer

#: Qwen/Qwen3-Embedding-0.6B's config.json.
QWEN3_06B: Final[dict[str, Any]] = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 28,
    "vocab_size": 151_669,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
_SEED: Final = 20_261_127
#: Standard deviation of the weights.
_DEVIATION: Final = 0.02


def build(
    name: str, device: torch.device, dtype: torch.dtype, max_tokens: int | None = None
) -> tuple[Any, Tokenizer, EncoderInfo]:
    """Model, tokenizer and description of `random:qwen3-0.6b[:LAYERS]`; a window above Qwen3's own means that one.

    Raises:
        InvalidInput: another shape or an impossible number of layers.
    """
    tokenizer, info = build_reader(name, max_tokens)
    return build_model(parse(name), device, dtype), tokenizer, info


def build_reader(name: str, max_tokens: int | None = None) -> tuple[Tokenizer, EncoderInfo]:
    """As `build`, without the model."""
    layers, window = parse(name), int(QWEN3_06B["max_position_embeddings"])
    tokenizer = build_tokenizer(min(max_tokens or window, window))
    return tokenizer, random_info(name, layers, tokenizer)


def parse(name: str) -> int:
    """Layers in `random:qwen3-0.6b[:LAYERS]`.

    Raises:
        InvalidInput: another shape or an impossible number of layers.
    """
    _, shape, *rest = name.split(":")
    if shape.lower() != "qwen3-0.6b" or len(rest) > 1 or (rest and not rest[0].isdecimal()):
        raise InvalidInput(f"model: expected random:qwen3-0.6b or random:qwen3-0.6b:LAYERS, got {name!r}")
    layers = int(rest[0]) if rest else int(QWEN3_06B["num_hidden_layers"])
    if not 1 <= layers <= 128:
        raise InvalidInput(f"model: expected 1 to 128 layers, got {name!r}")
    return layers


def build_model(layers: int, device: torch.device, dtype: torch.dtype) -> Any:
    """A Qwen3 model of this many layers with seeded random weights, in eval mode."""
    from transformers import Qwen3Config, Qwen3Model

    config = Qwen3Config(**{**QWEN3_06B, "num_hidden_layers": layers, "attn_implementation": "sdpa"})
    with torch.device("meta"):
        model: Any = Qwen3Model(config)
    model.to_empty(device="cpu").to(dtype)
    _fill(model)
    model.rotary_emb = type(model.rotary_emb)(config=config)
    return model.eval().requires_grad_(False).to(device)


@torch.no_grad()
def _fill(model: Any) -> None:
    """Draw in float32, so that every number format has the same weights, rounded; on all cores, a weight each."""
    drawn = []
    for number, (name, weight) in enumerate(model.named_parameters()):
        if name.endswith("norm.weight"):
            weight.fill_(1.0)
        else:
            drawn.append((number, weight.detach()))

    def draw(job: tuple[int, torch.Tensor]) -> None:
        number, weight = job
        source = torch.Generator().manual_seed(_SEED + number)
        weight.copy_(torch.empty(weight.shape).normal_(0.0, _DEVIATION, generator=source))

    with ThreadPoolExecutor(torch_threads()) as threads:
        list(threads.map(draw, drawn))


def build_tokenizer(max_tokens: int) -> Tokenizer:
    """A byte-level BPE trained in half a second on CPython's own language reference, which every Python carries.

    It appends `<|endoftext|>` as Qwen3-Embedding's does.
    """
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(list(topics.values()), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return Tokenizer(backend, max_tokens)


def random_info(name: str, layers: int, tokenizer: Tokenizer) -> EncoderInfo:
    """What such a model says about itself. Its digest covers the tokenizer, which differs between Python versions."""
    identity = f"random-qwen3-0.6b-{layers}-{_SEED}-{tokenizer.backend.to_str()}"
    return EncoderInfo(
        model=name,
        digest=hashlib.sha256(identity.encode()).hexdigest()[:32],
        pooling=Pooling.LAST,
        dimensions=int(QWEN3_06B["hidden_size"]),
        min_dimensions=32,
        max_tokens=tokenizer.max_tokens,
        templates=instruct(QWEN3_TASK),
        instruction_aware=True,
    )
