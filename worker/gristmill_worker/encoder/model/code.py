"""Code that a model brings along: refused by name unless it is allowed, and then held to one revision.

transformers puts a class of its own in the place of code that it may not run, where the names are near enough: the model
opens, and its vectors are those of another architecture.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gristmill_schemas.errors import InvalidInput, ModelUnavailable
from gristmill_worker.encoder.model.architecture import is_taken_over
from gristmill_worker.encoder.model.modules import read_json

#: What of `auto_map` takes part in embedding: a class for generation does not.
_TAKES_PART: Final = ("AutoConfig", "AutoModel", "AutoModelForTextEncoding", "AutoTokenizer")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def check_code(folder: Path, model: str, *, allowed: bool) -> bool:
    """Whether a folder's code runs: it has some, transformers has not taken it over, and it may.

    Args:
        folder: with `config.json` and the tokenizer's files.
        model: what people call it.
        allowed: `trust_remote_code`.

    Raises:
        ModelUnavailable: it needs code that may not run, or that is not in the folder.
    """
    named = _named(folder)
    for name in named:
        if not allowed:
            raise ModelUnavailable(
                f"{model}: it needs code of its own ({name}, by auto_map in {folder}), and none is run unasked: without it "
                "the vectors would be wrong. Read that code, then allow it with trust_remote_code "
                "(GRISTMILL_TRUST_REMOTE_CODE=true; a hub id also needs its commit as revision); or serve the model with a "
                "server that runs it (text-embeddings-inference, infinity, vLLM) and give its URL as the model"
            )
        _check_inside(folder, model, name)
    return bool(named)


def check_pinned(model: str, revision: str | None) -> None:
    """Check that code from the hub is that of one commit, since a branch may hold other code tomorrow.

    Raises:
        InvalidInput: it is not.
    """
    if not _COMMIT.fullmatch(revision or ""):
        raise InvalidInput(
            f"revision: with trust_remote_code expected the commit of {model} whose code you have read (40 hex digits, "
            f"listed under its files' history on the hub), got {revision!r}; or give a folder as the model"
        )


def _named(folder: Path) -> list[str]:
    """Classes that the folder's files name for configuration, model and tokenizer, each once, without those taken over."""
    found: dict[str, None] = {}
    config = read_json(folder / "config.json")
    for each in ({} if is_taken_over(config) else config, read_json(folder / "tokenizer_config.json")):
        said = each.get("auto_map") or {}
        # Older tokenizers list their classes, slow and fast, without saying of what.
        entries = {"AutoTokenizer": said} if isinstance(said, list) else dict(said)
        for kind in _TAKES_PART:
            names = entries.get(kind) or ()
            found |= dict.fromkeys(name for name in ([names] if isinstance(names, str) else names) if name)
    return list(found)


def _check_inside(folder: Path, model: str, name: str) -> None:
    elsewhere, _, inside = name.rpartition("--")
    if elsewhere:
        raise ModelUnavailable(
            f"{model}: its code {inside} lies in another repository ({elsewhere}), which no revision of this one pins: copy "
            f"that repository's .py files into a folder with this model's files, take {elsewhere + '--'!r} out of auto_map "
            "there, and give that folder as the model"
        )
    file = folder / f"{inside.rpartition('.')[0]}.py"
    if not file.is_file():
        raise ModelUnavailable(
            f"{folder}: auto_map names {inside}, and there is no {file.name}; fetch the folder again"
        )
