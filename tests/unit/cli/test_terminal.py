"""What outside texts may do to a terminal (nothing), and what becomes of output that nobody can read."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill import JobReport, JobState, SearchHit
from gristmill.cli.jobs import show_jobs
from gristmill.cli.layout import fields, listing
from gristmill.cli.output import said
from gristmill.cli.root import main
from gristmill.cli.search import show_hits
from gristmill.cli.terminal import json_text, one_line, visible

#: A title, the clipboard, a colour, a line overwritten, erased, reversed and split, nothing at all, half a character.
HOSTILE = [
    "\x1b]0;title\x07", "\x1b]52;c;cHduZWQ=\x1b\\", "\x1b[31m", "good\rbad", "a\x08b", "\x9b2J", "\u202egnp.exe", "a\u2028b",
    "a\u200bb", "\ufeffa", "\ud800", "\x00", "\x7f", "\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_obeys_is_shown_as_an_escape(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert "\\" in shown


ORDINARY = [
    "用了优惠券但没减钱", "👩\u200d👩\u200d👧 family", "می\u200cخواهم", "שלום\u200e", "naïve — 2 …", "a\tb\nc", r"C:\new",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_what_it_does_not_obey_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@given(st.text(alphabet=st.characters(codec=None), max_size=40))
def test_json_reads_back_as_it_was_and_is_printable_in_every_encoding(text: str) -> None:
    for encoding in ("utf-8", "ascii", "latin-1", "gbk", "utf-16"):
        told = json_text({"text": text}, encoding)
        assert json.loads(told) == {"text": text}
        told.encode(encoding)
        assert visible(told) == told


@pytest.mark.parametrize("tty", [True, False])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_screen_lets_it_by(terminal: Any, text: str, tty: bool) -> None:
    there = terminal(200, tty=tty)
    show_hits([SearchHit(id=text, score=1, text=text, metadata={}, version=1, span=(0, 1), point_id="p")])
    listing(["name", text], [(text, 1), ("a", 2)])
    fields({text: text})
    show_jobs([JobReport.model_construct(job_id=text, collection=text, state=JobState.DONE)], 1.0)
    assert one_line(text) in there.picture
    assert all(line.isprintable() for line in there.picture.split("\n"))


def test_markup_and_emoji_names_in_a_text_are_text(terminal: Any) -> None:
    there = terminal()
    fields({"text": "[red]not red[/] :warning: [link=http://a]b[/link] \\[bold]"})
    assert "[red]not red[/] :warning: [link=http://a]b[/link] \\[bold]" in there.picture
    assert said("a\nb") == "a\\nb"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_no_command_lets_by_what_documents_and_names_hold(
    terminal: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    text = "".join(each for each in HOSTILE if each not in ("\ud800", "\x00"))
    lines = [{"id": text, "text": text, "m": text}, {"id": text, "text": "", "m": text}, {"id": text, text: "again"}]
    file = tmp_path / "bad\x1b[2Jname.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    there = terminal()
    for command in (
        ["ingest", str(file), "-c", "docs"],
        ["collections", "create", f"c{text}", "--instruction", f"faq=Find {text}"],
        ["collections", "list"],
        ["collections", "show", f"c{text}"],
        ["search", "docs", text],
        ["search", "docs", text, "-w", f"m={text}"],
        ["receipt", "docs", text],
        ["audit", "docs", str(file)],
        ["jobs", "show", text],
        ["dead", "list", "--job", text],
        ["search", f"nowhere{text}", "q"],
        [f"--{text}"],
        [f"a{text}"],
    ):
        for further in ([], ["--json"], ["--debug"]):
            monkeypatch.setattr(sys, "argv", ["gristmill", *command, *further])
            with pytest.raises(SystemExit):
                main()
    shown = _ANIMATION.sub("", there.picture)
    assert [line for line in shown.split("\n") if not line.isprintable()] == []
    assert "\\x1b]52;c;cHduZWQ=" in shown


#: What the progress bar does to its own lines.
_ANIMATION = re.compile(r"\x1b\[\d*[AK]|\x1b\[\?25[lh]|\r")


def gristmill(*arguments: str, **how: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **how.pop("environment", {})}
    # By a shell, and not by `preexec_fn`: Python forks for that, and what gRPC does in a fork may hold it up.
    closing = ["/bin/sh", "-c", f'exec "$@" {how.pop("closing")}', "sh"] if "closing" in how else []
    command = [*closing, sys.executable, "-m", "gristmill", *arguments]
    return subprocess.run(command, env=environment, timeout=60, check=False, **how)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", "cp1252"])
def test_the_schema_is_the_same_in_every_encoding(encoding: str) -> None:
    ended = gristmill("schema", capture_output=True, environment={"PYTHONIOENCODING": encoding})
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "$defs" in json.loads(ended.stdout.decode(encoding))


def test_a_full_disk_is_said_and_is_a_failure() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = gristmill("schema", stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr.decode().strip() == (
        "OutputFailed: the result could not be written to standard output: No space left on device"
    )


def test_a_reader_that_leaves_ends_the_program_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = gristmill("schema", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_closed_output_is_a_failure_and_closed_errors_are_none() -> None:
    ended = gristmill("schema", stderr=subprocess.PIPE, closing=">&-")
    assert ended.returncode == 1
    assert b"Bad file descriptor" in ended.stderr
    ended = gristmill("schema", stdout=subprocess.PIPE, closing="<&- 2>&-")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["$defs"]
    assert gristmill("nonsense", stdout=subprocess.PIPE, closing="<&- 2>&-").returncode == 2
