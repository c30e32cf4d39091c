"""Where a model's files are: a folder on this machine, or a hub id whose snapshot is fetched once and cached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.code import check_pinned
from gristmill_worker.phases import phase

#: The model that comes as a package instead of from the hub: multilingual-e5-small (`gristmill[demo]`).
DEMO: Final = "demo"
_HUB_ID: Final = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")


@dataclass(frozen=True, slots=True)
class Located:
    """A model on this machine's disk."""

    folder: Path
    #: What people call it: the hub id, or the folder as given.
    label: str
    #: The hub commit, None for folders.
    revision: str | None = None


def locate(model: str, revision: str | None = None, *, code: bool = False, weights: bool = True) -> Located:
    """Find a model's folder, fetching it from the hub if it is a hub id and not cached yet.

    Args:
        model: a folder, `demo`, or a hub id such as `Qwen/Qwen3-Embedding-0.6B`. An existing folder wins.
        revision: branch, tag or commit on the hub. Pin a commit for reproducible spaces.
        code: fetch the code that the model brings along, too.
        weights: fetch the weights, too.

    Raises:
        ModelUnavailable: no such folder, no such model, access not granted, or the hub is out of reach.
        InvalidInput: code is asked for from the hub, and the revision is no commit.
    """
    path = Path(model).expanduser()
    if model == DEMO and not path.exists():
        from gristmill_worker.encoder.model.bundled.unpack import ensure_demo_model

        with phase("looking for the demo's model") as detail:
            return Located(ensure_demo_model(progress=lambda stage, done: detail(f"{stage}, {done:.0%}")), DEMO)
    if path.is_dir():
        _check_folder(path)
        return Located(path, model)
    if path.is_file():
        raise ModelUnavailable(f"{model} is a file: expected the folder that holds config.json and the weights")
    if not _looks_like_hub_id(model):
        raise ModelUnavailable(
            f"{path.absolute()}: no such folder; give an existing model folder or a hub id such as "
            "Qwen/Qwen3-Embedding-0.6B"
        )
    if code:
        check_pinned(model, revision)
    from gristmill_worker.encoder.model.hub import snapshot

    with phase(f"fetching {model}, or finding it in the cache") as detail:
        folder = snapshot(model, revision, detail, code=code, weights=weights)
    _check_folder(folder)
    return Located(folder, model, folder.name if folder.parent.name == "snapshots" else revision)


def _looks_like_hub_id(model: str) -> bool:
    return bool(_HUB_ID.match(model)) and not model.startswith((".", "/", "~")) and "\\" not in model


def _check_folder(path: Path) -> None:
    if not any((path / name).is_file() for name in ("config.json", "modules.json", "adapter_config.json")):
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise ModelUnavailable(
            f"{path.absolute()} holds no config.json (but {inside}): expected the folder of a Hugging Face model, with "
            "config.json, tokenizer and safetensors. A model in another format (GGUF, ONNX) runs in a server that reads it: "
            "give its URL as the model (http://HOST/v1#NAME)"
        )
