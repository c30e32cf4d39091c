"""From a reranker's name to a loaded one. Each kind is imported where it is chosen, so that a stand-in loads no torch."""

from __future__ import annotations

from gristmill.extras import brought_by
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.phases import phase
from gristmill_worker.reranker.base import Reranker


def open_reranker(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_tokens: int | None = None,
    budget_tokens: int | None = None,
    packed: bool | None = None,
    api_key: str | None = None,
    trust_remote_code: bool = False,
) -> Reranker:
    """Load a reranker.

    Args:
        model: a folder; a hub id; `http(s)://HOST[/v1]#NAME`, a server with `/rerank`; or `overlap:TOKENS`, a stand-in
            without a model, which counts shared words.
        revision: branch, tag or commit on the hub.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        dtype: `auto`, `float32`, `bfloat16`, `float16`.
        max_tokens: a smaller window than the model's own, for query and document together.
        budget_tokens: most tokens per forward pass; None measures what pays off.
        packed: None packs where the start-up check allows, True insists, False pads.
        api_key: sent to servers as a bearer token.
        trust_remote_code: run the code that a model brings along; a hub id then needs a commit as its revision.

    Raises:
        ModelUnavailable: no such folder or model, it is no reranker, or the hub or server is out of reach.
        NotInstalled: a package of the extra `worker` is missing, too old or broken.
        InvalidInput: a name or value that means nothing.
    """
    if model.startswith("overlap:"):
        return _open_overlap(model, max_tokens)
    if model.startswith(("http://", "https://")):
        with brought_by("worker", f"reranking with {model}"):
            from gristmill_worker.reranker.remote import open_remote

        return open_remote(model, api_key=api_key, max_tokens=max_tokens)
    with phase("importing torch and transformers"), brought_by("worker", f"reranking with {model}"):
        from gristmill_worker.reranker.local import open_local

    return open_local(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        max_tokens=max_tokens,
        budget_tokens=budget_tokens,
        packed=packed,
        trust_remote_code=trust_remote_code,
    )


def _open_overlap(model: str, max_tokens: int | None) -> Reranker:
    from gristmill_worker.reranker.overlap import OverlapReranker

    size = model.removeprefix("overlap:")
    if not size.isdecimal() or not 1 <= int(size) <= 1_000_000:
        raise InvalidInput(f"reranker: expected overlap:TOKENS with a window of 1 to 1000000 words, got {model!r}")
    return OverlapReranker(min(int(size), max_tokens or int(size)))
