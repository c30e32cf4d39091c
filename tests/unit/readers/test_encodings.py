"""Bytes into characters: every encoding that people have files in, told or named; what is no text is never stored."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.readers import read
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

Read = Callable[..., tuple[list[Document], list[Rejection]]]

SIMPLIFIED = ["用了优惠券但没减钱", "退款多久到账？", "怎么修改收货地址", "我想把订单里的两件商品分开发货，可以吗？"]
TRADITIONAL = [
    "使用了優惠券但沒有折扣",
    "退款多久會到帳？",
    "如何修改收貨地址",
    "我想把訂單裡的兩件商品分開出貨，可以嗎？",
]
JAPANESE = ["クーポンを使ったのに割引されません", "返金はいつですか", "注文の二つの商品を別々に発送できますか"]
KOREAN = ["쿠폰을 사용했는데 할인이 안 됐어요", "환불은 언제 되나요", "주문한 상품 두 개를 따로 보내 주세요"]
FRENCH = ["J'ai utilisé un bon mais le prix n'a pas baissé", "Où est ma commande ? À bientôt", "Ça coûte 5 €"]
GERMAN = ["Gutschein eingelöst, aber kein Rabatt", "Wann kommt die Rückzahlung?", "Größe ändern – geht das?"]
RUSSIAN = ["Я применил купон, но скидки нет", "Когда вернут деньги?", "Как изменить адрес доставки"]
POLISH = ["Użyłem kuponu, ale zniżki nie ma", "Kiedy otrzymam zwrot pieniędzy?", "Zażółć gęślą jaźń"]
GREEK = ["Χρησιμοποίησα κουπόνι χωρίς έκπτωση", "Πότε θα γίνει η επιστροφή χρημάτων;"]
THAI = ["ฉันใช้คูปองแต่ไม่ได้ส่วนลด", "จะได้เงินคืนเมื่อไหร่", "เปลี่ยนที่อยู่จัดส่งอย่างไร"]

KINDS = [
    (SIMPLIFIED, "gb18030", "GB18030"),
    (SIMPLIFIED, "gb2312", "GB18030"),
    (SIMPLIFIED, "gbk", "GB18030"),
    (TRADITIONAL, "big5", "Big5"),
    (JAPANESE, "shift_jis", "Shift-JIS"),
    (JAPANESE, "euc_jp", "EUC-JP"),
    (KOREAN, "euc_kr", "EUC-KR"),
    (FRENCH, "cp1252", "Windows-1252"),
    (GERMAN, "cp1252", "Windows-1252"),
    (RUSSIAN, "cp1251", "Windows-1251"),
    (RUSSIAN, "koi8_r", "KOI8-R"),
    (POLISH, "cp1250", "Windows-1250"),
    (GREEK, "cp1253", "Windows-1253"),
    (THAI, "cp874", "CP874"),
    (SIMPLIFIED, "utf-16", "UTF-16"),
    (SIMPLIFIED, "utf-32", "UTF-32"),
    (FRENCH, "utf-16-le", "UTF-16-LE"),
    (GERMAN, "utf-16-be", "UTF-16-BE"),
]


def as_csv(texts: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([["id", "text"], *enumerate(texts)])
    return out.getvalue()


def as_jsonl(texts: list[str]) -> str:
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


SHAPES: dict[str, Callable[[list[str]], str]] = {
    "a.csv": as_csv,
    "a.jsonl": as_jsonl,
    "a.txt": lambda texts: "\n\n".join(texts),
    "a.md": lambda texts: "".join(f"# {text}\n{text}\n" for text in texts),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("texts", "encoding", "shown"), KINDS)
def test_the_encoding_is_told_and_said(tmp_path: Path, texts: list[str], encoding: str, shown: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SHAPES[name](texts).encode(encoding))
    reading = read([path], paragraphs=True)
    found = [item.text if isinstance(item, Document) else str(item) for item in reading]
    assert [text.split("\n\n")[-1] for text in found] == texts
    assert reading.notes == [f"read as {shown}: {path}; --encoding names another"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((text, "gb18030") for text in (*SIMPLIFIED, "退款", "订单", "你好", "发票", "客服电话", "上海市浦东新区")),
        *((text, "big5") for text in (*TRADITIONAL, "客服電話", "什麼時候發貨")),
        *((text, "shift_jis") for text in (*JAPANESE, "こんにちは")),
    ],
)
def test_a_few_characters_are_enough_for_chinese_and_japanese(read_bytes: Read, text: str, encoding: str) -> None:
    (document,), _ = read_bytes("a.csv", f"id,text\n1,{text}\n".encode(encoding))
    assert document.text == text


@pytest.mark.parametrize("texts", [SIMPLIFIED, TRADITIONAL, JAPANESE, KOREAN, FRENCH, RUSSIAN, GREEK, THAI])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_utf8_is_never_taken_for_anything_else(tmp_path: Path, texts: list[str], mark: bytes) -> None:
    for text in texts:
        path = tmp_path / "a.txt"
        path.write_bytes(mark + text.encode())
        reading = read([path])
        assert [item.text for item in reading if isinstance(item, Document)] == [text]
        assert reading.notes == []


def test_a_named_encoding_is_taken_at_its_word(read_bytes: Read) -> None:
    for encoding in ("GB18030", "gbk", "UTF-16", "utf-16-le", "Shift_JIS"):
        content = "# 标题\n你".encode(encoding) if encoding != "Shift_JIS" else "# 標\n茶".encode("shift_jis")
        (document,), rejections = read_bytes("a.md", content, encoding=encoding)
        assert rejections == []
        assert document.id.startswith("a.md#标题") or document.id == "a.md#標"


def test_a_mark_is_no_text_whatever_encoding_was_named(read_bytes: Read) -> None:
    for encoding, mark in (("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16", b"")):
        (document,), _ = read_bytes("a.txt", mark + "text".encode(encoding), encoding=encoding)
        assert document.text == "text"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gb1803", "encoding: expected the name of a text encoding, got 'gb1803'; did you mean gb18030?"),
        ("utf8mb4", "did you mean"),
        ("base64", "got 'base64'"),
        ("rot13", "got 'rot13'"),
        ("", "got ''"),
        ("auto\0", r"got 'auto\\x00'"),
        ("klingon", "such as utf-8, gb18030, big5"),
    ],
)
def test_an_encoding_that_does_not_exist_gets_a_sentence(read_bytes: Read, name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as raised:
        read_bytes("a.txt", "text", encoding=name)
    assert raised.value.field == "encoding"


def test_the_first_foreign_line_may_come_late(read_bytes: Read) -> None:
    plain = "".join(f"{n},{'plain ' * 60}\n" for n in range(1_000))
    documents, rejections = read_bytes("a.csv", f"id,text\n{plain}x,{SIMPLIFIED[0]}\n".encode("gb18030"))
    assert rejections == []
    assert documents[-1].text == SIMPLIFIED[0]


def test_a_line_that_its_encoding_does_not_have_fails_alone(read_bytes: Read) -> None:
    lines = [f"{n},{text}\n".encode("gb18030") for n, text in enumerate(SIMPLIFIED * 20)]
    lines[50] = b"50,\xff\xff\n"
    documents, (rejection,) = read_bytes("a.csv", b"id,text\n" + b"".join(lines), encoding="gb18030")
    assert len(documents) == 79
    assert rejection.position == 52
    assert "'text': expected GB18030, got the byte 0xff at character 1 of the cell; --encoding" in rejection.reason


def test_a_damaged_line_does_not_hide_which_encoding_the_others_are_in(read_bytes: Read) -> None:
    for texts, encoding in (
        (SIMPLIFIED, "gb18030"),
        (TRADITIONAL, "big5"),
        (JAPANESE, "shift_jis"),
        (KOREAN, "euc_kr"),
    ):
        lines = [f"{n},{text}\n".encode(encoding) for n, text in enumerate(texts * 20)]
        lines[10] = b"10,\x81\xff\n"
        documents, (rejection,) = read_bytes("a.csv", b"id,text\n" + b"".join(lines))
        assert {document.text for document in documents} == set(texts)
        assert rejection.position == 12


def test_damaged_utf8_stays_utf8(read_bytes: Read) -> None:
    lines = [f"{n},{text}\n".encode() for n, text in enumerate(SIMPLIFIED * 5)]
    lines[7] = lines[7][:-3] + b"\n"
    documents, (rejection,) = read_bytes("a.csv", b"id,text\n" + b"".join(lines))
    assert len(documents) == 19
    assert rejection.position == 9
    assert "expected UTF-8" in rejection.reason


def test_what_is_in_no_encoding_that_can_be_told_is_refused_as_a_whole(read_bytes: Read) -> None:
    noise = bytes(0x80 + (n * n + n // 7) % 0x80 for n in range(8000))
    documents, (rejection,) = read_bytes("a.jsonl", b"\n".join(noise[n : n + 80] for n in range(0, 8000, 80)))
    assert documents == []
    assert rejection.position == 0
    assert rejection.reason.startswith("encoding: expected UTF-8 or another encoding that can be told, got neither")


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "text")
    return out.getvalue()


BINARIES = {
    "Portable Network Graphics": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1" * 200,
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1" + b"\0" * 300,
    "PDF": b"%PDF-1.4\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n",
    "RTF": b"{\\rtf1\\ansi hello}",
    "Office|ZIP": zipped(),
    "GZIP": gzip.compress(b"text" * 100),
    "bzip2|BZIP2": bz2.compress(b"text" * 100),
    "XZ": lzma.compress(b"text" * 100),
    "SQLite": b"SQLite format 3\0" + b"\0" * 600,
    "ELF": b"\x7fELF\2\1\1\0" + b"\0" * 600,
    "bytes that are no text": b"\1\2\3\4\0\0\0\0" * 200,
}


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.jsonl"])
@pytest.mark.parametrize("kind", BINARIES)
def test_a_binary_file_is_never_stored_as_text(read_bytes: Read, kind: str, name: str) -> None:
    documents, (rejection,) = read_bytes(name, BINARIES[kind])
    assert documents == []
    assert rejection.position == 0
    assert rejection.reason.startswith("file: expected text, got ")
    assert any(word in rejection.reason for word in kind.split("|")), rejection.reason


def test_random_bytes_are_never_stored_as_text(read_bytes: Read) -> None:
    rng = random.Random(1)
    for size in (1, 3, 10, 30, 100, 1000, 10_000):
        for _ in range(15):
            documents, rejections = read_bytes("a.txt", b"\xff\xf8" + rng.randbytes(size) + b"\xff\xfb")
            assert documents == []
            assert len(rejections) == 1


def test_text_that_begins_like_a_binary_is_text(read_bytes: Read) -> None:
    for text in (
        "BM is a format",
        "ID3 tags are old",
        "PK stands for Phil Katz",
        "MZ",
        "%PDF is a mark",
        "II* 2\x1b[0m",
    ):
        (document,), _ = read_bytes("a.txt", text)
        assert document.text == text


def test_classic_line_ends_are_line_ends(read_bytes: Read) -> None:
    documents, rejections = read_bytes("a.csv", b"id,text\r1,one\r2,two\r")
    assert [document.text for document in documents] == ["one", "two"]
    documents, rejections = read_bytes("a.txt", b"one\r\rtwo\r", paragraphs=True)
    assert [document.text for document in documents] == ["one", "two"]
    assert rejections == []
