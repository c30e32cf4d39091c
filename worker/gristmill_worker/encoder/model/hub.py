"""The model hub: a snapshot is fetched once and cached. Whatever goes wrong is one sentence that says how to get on without.

Many of our users cannot reach huggingface.co: a mirror (HF_ENDPOINT), ModelScope, a copied folder and the model that comes
as a package are what gets them on, so those are named.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gristmill_schemas.errors import ModelUnavailable
from gristmill_schemas.redaction import redact
from gristmill_worker.encoder.model.digest import weight_files

log = logging.getLogger(__name__)

#: Only what loading needs, with modules such as `2_Dense` and the card that says which model it is: no ONNX, OpenVINO,
#: TensorFlow or Flax copies of the weights.
_SMALL: Final = ("*.json", "*.txt", "*.model", "[0-9]_*/*.json", "README.md")
_NEEDED: Final = (*_SMALL, "model*.safetensors", "[0-9]_*/*")
_TOKENIZER: Final = "tokenizer.json"
#: Seconds that the hub gets to answer where a start can do without it.
_LOOK_S: Final = 5.0
#: What people mean when they mistype.
KNOWN: Final = (
    "Alibaba-NLP/gte-modernbert-base",
    "Alibaba-NLP/gte-multilingual-base",
    "BAAI/bge-base-en-v1.5",
    "BAAI/bge-base-zh-v1.5",
    "BAAI/bge-large-en-v1.5",
    "BAAI/bge-large-zh-v1.5",
    "BAAI/bge-m3",
    "BAAI/bge-small-en-v1.5",
    "BAAI/bge-small-zh-v1.5",
    "Qwen/Qwen3-Embedding-0.6B",
    "Qwen/Qwen3-Embedding-4B",
    "Qwen/Qwen3-Embedding-8B",
    "Snowflake/snowflake-arctic-embed-l-v2.0",
    "Snowflake/snowflake-arctic-embed-m-v2.0",
    "intfloat/e5-base-v2",
    "intfloat/e5-large-v2",
    "intfloat/e5-small-v2",
    "intfloat/multilingual-e5-base",
    "intfloat/multilingual-e5-large",
    "intfloat/multilingual-e5-large-instruct",
    "intfloat/multilingual-e5-small",
    "mixedbread-ai/mxbai-embed-large-v1",
    "nomic-ai/modernbert-embed-base",
    "nomic-ai/nomic-embed-text-v1.5",
    "sentence-transformers/LaBSE",
    "sentence-transformers/all-MiniLM-L6-v2",
    "sentence-transformers/all-mpnet-base-v2",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "thenlper/gte-base",
    "thenlper/gte-large-zh",
)
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")
#: Read by the hub's HTTP library in its own way: an address such as [::1] in it ends every request.
_EXCEPTIONS: Final = ("NO_PROXY", "no_proxy")
_TO_TRY: Final = 'the model "demo" needs no hub, to try with (`--model demo`)'


def snapshot(
    model: str, revision: str | None, told: Callable[[str], None], *, code: bool = False, weights: bool = True
) -> Path:
    """The folder of a hub model, fetched now where it is not in the hub's cache.

    Args:
        model: a hub id.
        revision: branch, tag or commit; None takes the main branch.
        told: how far it is.
        code: fetch Python files, too.
        weights: fetch the weights, too.

    Raises:
        ModelUnavailable: no such model or revision, access not granted, or the hub is out of reach.
    """
    needed = (*(_NEEDED if weights else _SMALL), *(("*.py",) if code else ()))
    try:
        folder = _download(model, revision, needed, told)
        if weights and not weight_files(folder):
            folder = _download(model, revision, (*needed, "pytorch_model*.bin"), told)
    except Exception as error:
        log.debug("%s could not be fetched", model, exc_info=True)
        # Without its causes: four tracebacks of HTTP libraries hide the one sentence that helps.
        raise ModelUnavailable(_why_not(model, revision, error), model=model) from None
    return folder


def tokenizer_file(model: str) -> Path:
    """The `tokenizer.json` of a hub model, and nothing else of it: out of the hub's cache, else fetched now.

    Raises:
        ModelUnavailable: why there is none, in a few words.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, _TOKENIZER, local_files_only=True))
    except LocalEntryNotFoundError:
        log.debug("%s: no %s in the hub's cache", model, _TOKENIZER)
    try:
        # First, since the download tries for half a minute to reach a hub that is not there.
        get_hf_file_metadata(hf_hub_url(model, _TOKENIZER), timeout=_LOOK_S)
        return Path(hf_hub_download(model, _TOKENIZER, tqdm_class=_bar(lambda _: None)))
    except Exception as error:
        log.debug("%s of %s could not be fetched", _TOKENIZER, model, exc_info=True)
        raise ModelUnavailable(_why_no_tokenizer(error), model=model) from None


def _why_no_tokenizer(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError

    match error:
        case GatedRepoError():
            return "it is gated: accept its terms on the hub, then set HF_TOKEN to that account's token"
        case RepositoryNotFoundError():
            return f"the hub ({_endpoint()}) knows no such model"
        case RemoteEntryNotFoundError():
            return f"the hub has no {_TOKENIZER} of it"
    return _reason(error)


def _why_not(model: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    match error:
        case GatedRepoError():
            return f"{model} is gated: accept its terms on {_endpoint()}/{model}, then set HF_TOKEN to that account's token"
        case RevisionNotFoundError():
            return f"{model} has no revision {revision!r} on the hub: expected a branch, a tag or a commit of it"
        case RepositoryNotFoundError():
            return (
                f"{model}: neither a folder here ({Path(model).absolute()}) nor a model on the hub ({_endpoint()})"
                f"{did_you_mean(model)}; check the spelling, or set HF_TOKEN if it is private; {_TO_TRY}"
            )
    return _out_of_reach(model, error)


def did_you_mean(model: str) -> str:
    """A hint at the known model that is nearest to a name, or nothing; with or without the owner before it."""
    if model in KNOWN:
        return ""
    names = {known.lower(): known for known in KNOWN} | {known.lower().rpartition("/")[2]: known for known in KNOWN}
    near = difflib.get_close_matches(model.lower(), names, n=1, cutoff=0.75)
    return f"; did you mean {names[near[0]]}?" if near else ""


def _out_of_reach(model: str, error: Exception) -> str:
    return (
        f"{model}: no folder of that name here ({Path(model).absolute()}), not in the hub's cache, and {_reason(error)}"
        f"{did_you_mean(model) or '.'} "
        f"Either set HF_ENDPOINT to a mirror (such as https://hf-mirror.com), or HF_HOME to a cache that holds it; or fetch "
        f"it elsewhere, for one from ModelScope (`modelscope download --model {model} --local_dir FOLDER`), and give the "
        f"folder's path as the model; {_TO_TRY}"
    )


def _reason(error: Exception) -> str:
    import huggingface_hub.constants as hub

    if hub.HF_HUB_OFFLINE:
        return "the hub is not asked, since HF_HUB_OFFLINE is set"
    root: BaseException = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    line = (str(root).strip().splitlines() or [""])[0][:200]
    names = _EXCEPTIONS if type(root).__name__ == "InvalidURL" else _PROXIES
    proxy = next((f" through {name}={redact(value)}" for name in names if (value := os.environ.get(name))), "")
    return f"the hub ({_endpoint()}{proxy}) is out of reach ({type(root).__name__}: {line})"


def _endpoint() -> str:
    import huggingface_hub.constants as hub

    return str(hub.ENDPOINT)


def _download(model: str, revision: str | None, patterns: Sequence[str], told: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns), tqdm_class=_bar(told)))


def _bar(told: Callable[[str], None]) -> Any:
    """What the hub client takes for a progress bar: draws nothing, and tells how many bytes are there."""
    module: Any = importlib.import_module("huggingface_hub.utils.tqdm")

    class Told(module.tqdm):  # type: ignore[misc]  # the client wants a class, and its own has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            # Of the two bars that count bytes, the one for what is on the disk.
            self._counts_bytes = options.get("unit") == "B" and "transfer" not in str(options.get("name"))
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self._counts_bytes and self.n:
                told(f"{self.n / 1e6:,.0f} of {(self.total or self.n) / 1e6:,.0f} MB")

    return Told
