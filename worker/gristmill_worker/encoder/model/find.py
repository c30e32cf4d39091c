"""Where a model's files are: a folder on this machine, or a hub id whose snapshot is fetched once and cached."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.digest import weight_files

#: Only what loading needs: no ONNX, OpenVINO, TensorFlow or Flax copies of the weights.
_NEEDED: Final = ("*.json", "*.txt", "*.model", "model*.safetensors", "1_Pooling/*", "2_Normalize/*")
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


def locate(model: str, revision: str | None = None, *, progress: bool = False) -> Located:
    """Find a model's folder, fetching it from the hub if it is a hub id and not cached yet.

    Args:
        model: a folder, `demo`, or a hub id such as `Qwen/Qwen3-Embedding-0.6B`. An existing folder wins.
        revision: branch, tag or commit on the hub. Pin a commit for reproducible spaces.
        progress: show download bars.

    Raises:
        ModelUnavailable: no such folder, no such model, access not granted, or the hub is out of reach.
    """
    path = Path(model).expanduser()
    if model == DEMO and not path.exists():
        from gristmill_worker.encoder.model.bundled.unpack import ensure_demo_model

        return Located(ensure_demo_model(), DEMO)
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
    return _snapshot(model, revision, progress=progress)


def _looks_like_hub_id(model: str) -> bool:
    return bool(_HUB_ID.match(model)) and not model.startswith((".", "/", "~")) and "\\" not in model


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise ModelUnavailable(f"{path.absolute()} holds no config.json (but {inside}): expected a model folder")


def _snapshot(model: str, revision: str | None, *, progress: bool) -> Located:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        folder = _download(model, revision, _NEEDED, progress=progress)
        if not weight_files(folder):
            folder = _download(model, revision, (*_NEEDED, "pytorch_model*.bin"), progress=progress)
    except GatedRepoError as error:
        raise ModelUnavailable(f"{model} is gated: accept its terms on the hub and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ModelUnavailable(f"{model} has no revision {revision!r} on the hub") from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailable(
            f"{model}: neither a folder here ({Path(model).absolute()}) nor a model on the hub; "
            "check the spelling, or set HF_TOKEN if it is private"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelUnavailable(_out_of_reach(model, error)) from error
    _check_folder(folder)
    return Located(folder, model, folder.name if folder.parent.name == "snapshots" else revision)


def _download(model: str, revision: str | None, patterns: Sequence[str], *, progress: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns), tqdm_class=_bar(progress)))


def _out_of_reach(model: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{model}: no folder of that name here ({Path(model).absolute()}), not in the hub cache, and the hub is out of "
        f"reach ({reason}); copy the model's folder here and give its path, or set HF_HOME to a cache that holds it"
    )


def _bar(progress: bool) -> Any:
    """The progress bar class for the hub client: its own, or one that shows nothing."""
    module: Any = importlib.import_module("huggingface_hub.utils.tqdm")
    if progress:
        return module.tqdm

    class Silent(module.tqdm):  # type: ignore[misc]  # the client wants a class, and its own has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

    return Silent
