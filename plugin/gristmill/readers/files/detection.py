"""Which legacy encoding a text is in: a guess that must be a good one, or none.

For Chinese, Japanese and Korean the encoding is told by how many of its characters are common ones: each of these
standards puts them into rows of their own, and text read in the wrong one scatters over the rare rows. That works from
three characters on, where `charset-normalizer`, made for longer texts, reads 你好 as Korean and 订单 as Big5. Western
European text is told by its letters; everything else is left to `charset-normalizer`.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

#: Bytes that are looked at.
_SAMPLE_BYTES: Final = 64 * 1024
#: Fewer bytes that are not ASCII would make it chance: for two bytes a character, for Western letters, for the rest.
_MIN_FOREIGN_BYTES: Final = (3, 2, 12)
#: Share of common characters from which on a text is what it is taken for.
_MIN_COMMON: Final = 0.85
#: More kana than Chinese ever has; fewer late rows than Chinese ever has.
_MIN_KANA: Final = 0.15
_MIN_LATE_ROWS: Final = 0.08
#: Share of control characters that a text may have, and of accents that a Western one may have.
_MAX_CONTROL: Final = 0.01
_MAX_ACCENTS: Final = 0.4
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
#: Share of characters that cannot be decoded in a text that is damaged and not in another encoding.
_MAX_DAMAGED: Final = 0.01
#: Share of mess, by its own measure, that charset-normalizer's best may have.
_MAX_CHAOS: Final = 0.1

#: Letters and marks of Western Europe, as Windows-1252 has them.
_WESTERN: Final = re.compile(
    "[ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüŒœŠšŽž€‚„…‘’“”•–—™¡¢£§©ª«®°±²³´µ·º»¼½¾¿×\xa0]"
)
_LETTER_ALONE: Final = re.compile(r"(?<![^\W\d_])[ß-þ](?![^\W\d_])")
#: Letters that stand alone in Western languages: à, and é, è, o in Italian, y in Spanish, å and ø in Danish.
_ALONE: Final = frozenset("àéèêôòóáåøö")
#: What charset-normalizer may choose from: encodings that people have files in.
_SINGLE_BYTE: Final = [
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("koi8_r", "koi8_u", "iso8859_2", "iso8859_7", "iso8859_9", "cp874", "cp437", "cp850", "cp866", "mac_roman"),
]


@dataclass(frozen=True, slots=True)
class _Script:
    """A double-byte encoding, and which of its characters are common."""

    encoding: str
    #: Of a character's bytes.
    common: Callable[[bytes], bool]


def _rows(*bounds: tuple[int, int], trail: int = 0x40) -> Callable[[bytes], bool]:
    leads = frozenset(lead for first, last in bounds for lead in range(first, last + 1))
    return lambda character: len(character) == 2 and character[0] in leads and character[1] >= trail


#: In the order in which they are preferred. Rows: punctuation, then the common characters.
_SCRIPTS: Final = (
    _Script("gb18030", _rows((0xA1, 0xA1), (0xA3, 0xA3), (0xB0, 0xD7), trail=0xA1)),
    _Script("big5hkscs", _rows((0xA1, 0xC6))),
    _Script("cp932", _rows((0x81, 0x83), (0x88, 0x97))),
    _Script("euc_jp", _rows((0xA1, 0xA1), (0xA3, 0xA5), (0xB0, 0xCF), trail=0xA1)),
    _Script("cp949", _rows((0xA1, 0xA1), (0xA3, 0xA3), (0xB0, 0xC8), trail=0xA1)),
)


def guess(sample: bytes) -> str | None:
    """The encoding of bytes that are not UTF-8; None where none is likely enough."""
    sample = sample[:_SAMPLE_BYTES]
    if len(_CONTROL.findall(sample)) > len(sample) * _MAX_CONTROL:
        return None
    foreign = sum(byte >= 0x80 for byte in sample)
    for least, recognise in zip(_MIN_FOREIGN_BYTES, (_double_byte, _western, _single_byte), strict=True):
        if foreign >= least and (found := recognise(sample)):
            return found
    return None


def _double_byte(sample: bytes) -> str | None:
    shares = {script.encoding: _common_share(sample, script) for script in _SCRIPTS}
    best = max(shares, key=lambda encoding: shares[encoding])
    if shares[best] < _MIN_COMMON:
        return None
    return _of_the_same_rows(sample) if best in ("gb18030", "euc_jp", "cp949") else best


def _common_share(sample: bytes, script: _Script) -> float:
    characters = _foreign(sample, script.encoding)
    if not characters:
        return 0.0
    return sum(script.common(each.encode(script.encoding, "ignore")) for each in characters) / len(characters)


def _foreign(sample: bytes, encoding: str) -> str:
    """The characters that are not ASCII; none where the bytes are not in this encoding, but for a line or two."""
    # The sample may end inside a character.
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    foreign = re.sub(r"[\x00-\x7f]+", "", text)
    return "" if foreign.count("\ufffd") > len(foreign) * _MAX_DAMAGED else foreign.replace("\ufffd", "")


def _of_the_same_rows(sample: bytes) -> str:
    """Chinese, Japanese and Korean put their characters at the same places; what differs is which are in use."""
    pairs = re.findall(rb"[\xa1-\xfe][\xa1-\xfe]", sample)
    if _share(pairs, 0xA4, 0xA5) >= _MIN_KANA and _foreign(sample, "euc_jp"):
        return "euc_jp"
    if _share(pairs, 0xC9, 0xD7) < _MIN_LATE_ROWS and len(pairs) >= 8 and _foreign(sample, "cp949"):
        return "cp949"
    return "gb18030"


def _share(pairs: list[bytes], first: int, last: int) -> float:
    return sum(first <= pair[0] <= last for pair in pairs) / len(pairs) if pairs else 0.0


def _western(sample: bytes) -> str | None:
    foreign = _foreign(sample, "cp1252")
    if not foreign or len(foreign) > len(sample) * _MAX_ACCENTS or len(_WESTERN.findall(foreign)) < len(foreign):
        return None
    alone = [each for each in _LETTER_ALONE.findall(sample.decode("cp1252", "replace")) if each not in _ALONE]
    # Words have letters around an accent; in other alphabets whole words are made of such bytes.
    crowded = re.findall("[À-ÿ]{3,}", sample.decode("cp1252", "replace"))
    return None if alone or crowded else "cp1252"


def _single_byte(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(sample, cp_isolation=_SINGLE_BYTE).best()
    return best.encoding if best and best.chaos <= _MAX_CHAOS and _are_words(_foreign(sample, best.encoding)) else None


def _are_words(foreign: str) -> bool:
    """Letters, and no capital after a small one: what bytes that mean nothing look like in any alphabet."""
    # Thai writes its vowels as marks.
    letters = sum(each.isalpha() or unicodedata.category(each) == "Mn" for each in foreign)
    flips = sum(before.islower() and after.isupper() for before, after in pairwise(foreign))
    return letters >= len(foreign) * 0.9 and flips <= len(foreign) * 0.05
