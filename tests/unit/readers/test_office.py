"""PDF, Word, PowerPoint and Excel files become Markdown and are read by sections; what cannot be read says why."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.readers import read
from gristmill_schemas import Document, Rejection
from gristmill_schemas.errors import InvalidInput

pytest.importorskip("markitdown")
pytest.importorskip("pdfminer")

Read = Callable[..., tuple[list[Document], list[Rejection]]]


def pdf(text: str) -> bytes:
    """One page with these words; a scan where there are none."""
    shown = f"BT /F1 18 Tf 10 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 144] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n", list[int]()
    for number, each in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(out),
    )


def saved(document: Any) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def test_a_pdf_is_its_text(read_bytes: Read) -> None:
    (document,), rejections = read_bytes("a.pdf", pdf("Hello world"))
    assert (document.id, document.text, document.metadata["source"], rejections) == (
        "a.pdf",
        "Hello world",
        "a.pdf",
        [],
    )


def test_word_files_are_read_by_their_headings(read_bytes: Read) -> None:
    docx = pytest.importorskip("docx")
    word = docx.Document()
    word.core_properties.title = "Terms & more"
    word.add_heading("Intro", 1)
    word.add_paragraph("你好")
    word.add_heading("Next", 2)
    word.add_paragraph("More")
    (first, second), _ = read_bytes("a.docx", saved(word))
    assert (first.id, first.text) == ("a.docx#intro", "Intro\n\n你好")
    assert second.metadata == {"source": "a.docx", "title": "Terms & more", "headings": ["Intro", "Next"]}
    (whole,), _ = read_bytes("a.docx", saved(word), sections=False)
    assert whole.id == "a.docx"


def test_slides_and_sheets_are_read(read_bytes: Read) -> None:
    pptx, openpyxl = pytest.importorskip("pptx"), pytest.importorskip("openpyxl")
    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[0])
    slide.shapes.title.text, slide.placeholders[1].text = "Slide", "Body"
    (document,), _ = read_bytes("a.pptx", saved(slides))
    assert document.text == "Slide\n\nBody"
    book = openpyxl.Workbook()
    book.active.append(["name", "price"])
    book.active.append(["x", 5])
    (document,), _ = read_bytes("a.xlsx", saved(book))
    assert "| x | 5 |" in document.text


def zipped(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pdf", pdf(""), "file: expected text, got none: a scan? `ocrmypdf FILE NEW` puts the text into it"),
        ("a.pdf", b"%PDF-1.4 broken", "file: expected"),
        ("a.pdf", b"hello", "file: expected PDF, got other content under this name"),
        ("a.docx", pdf("x"), "file: expected DOCX, got other content under this name"),
        ("a.docx", b"PK\3\4 damaged", "file: expected DOCX, got a damaged or another one"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0" + bytes(600),
            "file: expected DOCX, got an older or a protected one: save it anew",
        ),
        ("a.docx", zipped(a=b"x"), "file: expected a readable DOCX, got "),
        ("a.xlsx", zipped(a=b"x"), "file: expected a readable XLSX, got "),
        ("a.docx", b"", "file: expected DOCX"),
    ],
)
def test_what_cannot_be_read_says_why(read_bytes: Read, name: str, content: bytes, told: str) -> None:
    documents, (rejection,) = read_bytes(name, content)
    assert (documents, rejection.reason[: len(told)]) == ([], told)


def test_a_file_that_would_unpack_beyond_measure_is_refused(read_bytes: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.readers.office.MAX_UNPACKED_BYTES", 1_000_000)
    _, (rejection,) = read_bytes("a.docx", zipped(bomb=bytes(2_000_000)))
    assert rejection.reason == "file: expected one that unpacks to at most 1000000 bytes, got 2000000"


@pytest.mark.parametrize(
    ("suffix", "way"), [(".doc", "docx"), (".odt", "docx"), (".rtf", "docx"), (".xls", "xlsx"), (".ppt", "pptx")]
)
def test_other_office_formats_get_the_command_that_converts_them(tmp_path: Path, suffix: str, way: str) -> None:
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(
        InvalidInput, match=f"got {suffix}; convert it first: `soffice --headless --convert-to {way} FILE`"
    ):
        read([tmp_path / f"a{suffix}"])


def test_without_markitdown_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("x"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"reading docs needs markitdown.*pip install 'gristmill\[docs\]'"):
        read([tmp_path / "a.pdf"])
