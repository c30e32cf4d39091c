"""What a dry run has counted, remembered in the user's cache folder: `ingest` of the same files goes by it.

One small file for each input, by a hash over collection, tenant, options and the files with their sizes and times, so what
has changed since is not found. Whatever goes wrong with it costs nothing but the better progress bar.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from gristmill import Estimate
from gristmill.readers import Reading

log = logging.getLogger(__name__)

#: Inputs that are remembered; the oldest make room.
_KEPT = 100


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one input, as far as a progress bar needs it."""

    #: That `enqueue` takes.
    documents: int
    #: That go through the model.
    tokens: int


class CountsCache:
    """Of one collection and tenant."""

    def __init__(self, collection: str, tenant: str | None, folder: Path | None = None) -> None:
        self._named = [collection, tenant]
        self._folder = _folder() if folder is None else folder

    def remember(self, documents: Reading, estimate: Estimate) -> bool:
        """Keep the counts; false where the same input cannot be told again, or nothing can be written."""
        if (file := self._file(documents)) is None:
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(asdict(Counts(estimate.accepted, estimate.tokens))), encoding="utf-8")
            for old in sorted(self._folder.glob("*.json"), key=lambda each: -each.stat().st_mtime)[_KEPT:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.debug("counts are not remembered: %s", error)
            return False
        return True

    def recall(self, documents: Reading) -> Counts | None:
        """The counts of the same input, where there are any."""
        if (file := self._file(documents)) is None:
            return None
        try:
            return Counts(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _file(self, documents: Reading) -> Path | None:
        if (input_ := documents.fingerprint()) is None:
            return None
        name = hashlib.sha256(json.dumps([*self._named, input_]).encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("gristmill") / "counts"
