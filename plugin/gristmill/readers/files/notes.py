"""What a reading has to say besides its documents: which encodings it found, what it passed over, what readers inferred."""

from __future__ import annotations

import mimetypes
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

#: Suffixes named for each group of files that were passed over.
_SUFFIXES_SHOWN = 4
#: Sentences of readers that are kept; the rest is counted.
_SENTENCES_KEPT = 100
_NOUNS = {"image": ("image", "images"), "audio": ("sound", "sounds"), "video": ("video", "videos")}


class Passed(StrEnum):
    """Why a folder's entry was passed over."""

    HIDDEN = "hidden"
    EXCLUDED = "excluded"
    #: Pipes, sockets and devices: opening one may wait for ever.
    SPECIAL = "pipes, sockets or devices"
    LINK = "links to folders or out of the folder"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Notes:
    """Gathered while reading; bounded, whatever a folder holds."""

    passed: Counter[tuple[Passed, str]] = field(default_factory=Counter)
    encodings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _encoded: Counter[str] = field(default_factory=Counter)
    _said: dict[str, None] = field(default_factory=dict)
    _unsaid: int = 0

    def pass_over(self, path: Path, why: Passed) -> None:
        """Count an entry that is not read."""
        kind = (mimetypes.guess_type(path.name)[0] or "").partition("/")[0] if why is Passed.UNKNOWN else ""
        kind = kind if kind in _NOUNS else ""
        suffix = path.suffix.lower() if why is Passed.UNKNOWN else ""
        self.passed[why, f"{kind}\0{suffix}"] += 1

    def found_encoding(self, label: str, encoding: str) -> None:
        """Note that a file was read as something other than UTF-8 although nobody had said so."""
        self._encoded[encoding] += 1
        if len(self.encodings[encoding]) < _SUFFIXES_SHOWN:
            self.encodings[encoding].append(label)

    def say(self, sentence: str) -> None:
        """A reader's own remark; the same one is kept once."""
        if len(self._said) < _SENTENCES_KEPT:
            self._said[sentence] = None
        elif sentence not in self._said:
            self._unsaid += 1

    def sentences(self) -> list[str]:
        """All of it, for people."""
        said = [*self._said, *([f"… and {self._unsaid:,} more remarks"] if self._unsaid else [])]
        return [*self._encoding_sentences(), *said, *self._skips()]

    def _encoding_sentences(self) -> Iterator[str]:
        for encoding, labels in self.encodings.items():
            more = self._encoded[encoding] - len(labels)
            shown = ", ".join(labels) + (f" and {more:,} more" if more else "")
            yield f"read as {encoding}: {shown}; --encoding names another"

    def _skips(self) -> list[str]:
        if not self.passed:
            return []
        total = self.passed.total()
        return [f"skipped {total:,} {_plural(total, 'entry', 'entries')}: {', '.join(self._groups())}"]

    def _groups(self) -> Iterator[str]:
        unknown: dict[str, Counter[str]] = defaultdict(Counter)
        rest: Counter[Passed] = Counter()
        for (why, detail), count in self.passed.items():
            if why is Passed.UNKNOWN:
                kind, _, suffix = detail.partition("\0")
                unknown[kind][suffix] += count
            else:
                rest[why] += count
        for kind, suffixes in sorted(unknown.items(), key=lambda item: -item[1].total()):
            shown = ", ".join(
                suffix or "no suffix"
                for suffix in sorted(suffixes, key=lambda suffix: (-suffixes[suffix], suffix))[:_SUFFIXES_SHOWN]
            )
            more = ", …" if len(suffixes) > _SUFFIXES_SHOWN else ""
            yield f"{suffixes.total():,} {_noun(kind, suffixes.total())} ({shown}{more})"
        yield from (f"{count:,} {why}" for why, count in rest.most_common())


def _noun(kind: str, count: int) -> str:
    return _plural(count, *_NOUNS.get(kind, ("of a kind that is not read", "of kinds that are not read")))


def _plural(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
