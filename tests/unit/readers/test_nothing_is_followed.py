"""Files are read and never run, and nothing that they name is followed: no host is asked, no other file is opened.

SECURITY.md promises it of whoever writes documents.
"""

from __future__ import annotations

import builtins
import io
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unit.readers.conftest import Outcome

Read = Callable[..., Outcome]
WORDS = "The miller grinds the rye that the farmers bring, and keeps a part of it for himself. "
#: What lies beside the file, where a name in it could lead.
SECRET = "the-word-that-no-document-has"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What anything tried to reach, or to open beside the file."""
    tried: list[Any] = []
    plain_open = open

    def refuse(*where: Any, **_: Any) -> Any:
        tried.append(where)
        raise OSError("nobody is to be asked")

    def watched(where: Any, *how: Any, **more: Any) -> Any:
        return refuse(where) if str(where).endswith("secret.txt") else plain_open(where, *how, **more)

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """An address of a file that is nobody's document."""
    place = tmp_path / "elsewhere" / "secret.txt"
    place.parent.mkdir()
    place.write_text(SECRET)
    return place.as_uri()


HTML = """<!DOCTYPE html [<!ENTITY x SYSTEM "{secret}">]><html><head><base href="http://192.0.2.1/">
<meta http-equiv="refresh" content="0; url=http://192.0.2.1/"><link rel="stylesheet" href="http://192.0.2.1/a.css">
<script src="http://192.0.2.1/a.js">location = "{secret}"</script></head><body><article><h1>Mill</h1>
<p>{words}&x;</p><img src="{secret}"><iframe src="{secret}"></iframe><object data="http://192.0.2.1/"></object>
<p>{words}</p></article></body></html>"""
MARKDOWN = """---
include: "{secret}"
---
# Mill

{words} ![a picture]({secret}) <img src="http://192.0.2.1/a.png"> <script src="http://192.0.2.1/a.js"></script>
[a word][1]

[1]: {secret}
"""


#: What is not in a base installation.
NEEDS = {"a.html": ("trafilatura",), "a.md": ("yaml",)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", HTML),
        ("a.md", MARKDOWN),
        ("a.txt", MARKDOWN),
        ("a.json", '[{{"id": "1", "$ref": "{secret}", "text": "{words}"}}]'),
    ],
)
def test_what_a_text_names_is_not_looked_at(
    name: str, content: str, read_bytes: Read, secret: str, asked: list[Any]
) -> None:
    for needed in NEEDS.get(name, ()):
        pytest.importorskip(needed)
    documents, _ = read_bytes(name, content.format(secret=secret, words=WORDS))
    assert "The miller grinds" in documents[0].text
    assert not any(SECRET in str(each) for each in documents)
    assert asked == []


def test_what_a_word_file_names_is_not_looked_at(read_bytes: Read, secret: str, asked: list[Any]) -> None:
    pytest.importorskip("markitdown")
    docx = pytest.importorskip("docx")
    word, picture = docx.Document(), io.BytesIO(bytes.fromhex(PNG))
    word.add_paragraph(WORDS)
    word.add_picture(picture)
    plain = io.BytesIO()
    word.save(plain)
    (document,), rejections = read_bytes("a.docx", linked(plain.getvalue(), secret))
    assert "The miller grinds" in document.text
    assert SECRET not in document.text
    assert (asked, rejections) == ([], [])


def test_an_entity_in_a_word_file_is_not_looked_up(read_bytes: Read, secret: str, asked: list[Any]) -> None:
    pytest.importorskip("markitdown")
    docx = pytest.importorskip("docx")
    word = docx.Document()
    word.add_paragraph(WORDS)
    plain = io.BytesIO()
    word.save(plain)
    documents, rejections = read_bytes("a.docx", with_entity(plain.getvalue(), secret))
    assert not any(SECRET in str(each) for each in (*documents, *rejections))
    assert asked == []


def changed(zipped: bytes, change: Callable[[str, str], str]) -> bytes:
    """The same archive, each text in it by name as `change` gives it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipped)) as source, zipfile.ZipFile(out, "w") as target:
        for each in source.namelist():
            content = source.read(each)
            is_text = each.endswith((".xml", ".rels"))
            target.writestr(each, change(each, content.decode()).encode() if is_text else content)
    return out.getvalue()


def linked(zipped: bytes, address: str) -> bytes:
    """Its picture lies elsewhere."""

    def change(name: str, text: str) -> str:
        if name == "word/document.xml":
            return text.replace("r:embed=", "r:link=")
        if name == "word/_rels/document.xml.rels":
            return text.replace('Target="media/image1.png"', f'Target="{address}" TargetMode="External"')
        return text

    return changed(zipped, change)


def with_entity(zipped: bytes, address: str) -> bytes:
    """Its first paragraph ends with what lies elsewhere."""

    def change(name: str, text: str) -> str:
        if name != "word/document.xml":
            return text
        head, _, rest = text.partition("?>")
        declared = f'{head}?><!DOCTYPE w:document [<!ENTITY x SYSTEM "{address}">]>{rest}'
        return declared.replace("for himself. ", "for himself. &x;")

    return changed(zipped, change)


#: One white point.
PNG = (
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f80f00010101"
    "00b138f6140000000049454e44ae426082"
)
