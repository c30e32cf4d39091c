"""Every example in the pages is one: Python compiles, commands and their options exist, YAML and JSON are what they say.

`tests/integration/test_pages_run.py` runs the Python. What can be neither is skipped by a comment that says why (sybil's):

    <!-- skip: next "needs a hub" -->
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from gristmill.cli.root import build

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCKS = re.compile(r"^(?P<skip><!-- skip: next .*-->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
#: What no example is written in: pictures, Redis's users, systemd's units, and directives, which the site's build reads.
_PLAIN = {"acl", "ini", "{eval-rst}", "{toctree}", "{include}"}
_SHELL = {"sh", "bash", ""}
#: What ends a command in a shell.
_ENDS = {"&", "&&", "||", ";", ">", "<"}


def _blocks(*languages: str) -> list[Any]:
    return list(_each(*languages))


def _each(*languages: str) -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(_BLOCKS.finditer(page.read_text("utf-8"))):
            if block["language"] in languages and not block["skip"]:
                yield pytest.param(block["text"], id=f"{page.relative_to(ROOT)}-{number}")


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    kinds = {block["language"] for page in PAGES for block in _BLOCKS.finditer(page.read_text("utf-8"))}
    assert kinds <= {"python", "yaml", "json"} | _SHELL | _PLAIN


def test_few_examples_are_skipped_and_each_says_why() -> None:
    skips = [skip for page in PAGES for skip in re.findall(r"<!-- skip: (.*?)-->", page.read_text("utf-8"))]
    assert [skip for skip in skips if not re.fullmatch(r'next "[^"]{10,}" ', skip)] == []
    assert len(skips) <= 6


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_compiles(block: str) -> None:
    ast.parse(block)


@pytest.mark.parametrize("block", _blocks("yaml"))
def test_yaml_is_yaml(block: str) -> None:
    assert list(yaml.safe_load_all(block))


@pytest.mark.parametrize("block", _blocks("json"))
def test_json_is_json(block: str) -> None:
    json.loads(block)


def test_every_command_and_every_option_exists(root: Any) -> None:
    examples = [line for block in _blocks(*_SHELL) for line in _commands(block.values[0])]
    assert len(examples) > 40
    assert {example: wrong for example in examples if (wrong := _wrong(root, example))} == {}


def test_every_command_that_a_sentence_names_exists(root: Any) -> None:
    """In pages and in what the code says; alerts name theirs without backticks."""
    code = [path for room in ("schemas", "plugin", "worker") for path in (ROOT / room).rglob("*.py")]
    outside = [ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *(ROOT / "compose").rglob("README.md")]
    texts = [re.sub(r"```.*?```", "", each.read_text("utf-8"), flags=re.S) for each in (*PAGES, *outside, *code)]
    named = {found for text in texts for found in re.findall(r"`(gristmill [^`{}\n]+)`", text)}
    alerts = (ROOT / "compose" / "prometheus" / "alerts.yml").read_text("utf-8")
    named |= set(
        re.findall(r"gristmill (?!serves|has)[a-z][\w -]+", re.sub(r"https?://\S+|name: gristmill", "", alerts))
    )
    calls = {call for each in named if "…" not in each and "COMMAND" not in each for call in _each_of(each)}
    assert len(calls) > 150
    wrong = {call: why for call in sorted(calls) if (why := _wrong(root, call)) and "requires an argument" not in why}
    assert wrong == {}


def _each_of(call: str) -> Iterator[str]:
    """`jobs cancel|pause` is two commands."""
    if choice := re.search(r"(?<= )(--)?[a-z-]+(?:\|(--)?[a-z-]+)+", call):
        for one in choice[0].split("|"):
            yield from _each_of(call.replace(choice[0], one))
    else:
        yield call


@pytest.mark.parametrize("wrong", ["gristmill serch docs x", "gristmill search docs x --fast", "gristmill jobs look"])
def test_a_command_that_does_not_exist_is_seen(root: Any, wrong: str) -> None:
    assert "No such" in _wrong(root, wrong)


@pytest.fixture(scope="module")
def root() -> Any:
    """All commands, the worker's among them. Typer's groups are of a click of its own, which has no public name."""
    return typer.main.get_command(build())


def _commands(block: str) -> Iterator[str]:
    """The lines of a shell block that call us, without what stands before and behind."""
    block = re.sub(r"<<'END'\n.*?^END$", "", block, flags=re.M | re.S).replace("\\\n", " ")
    for line in block.splitlines():
        if call := re.search(r"(?:^|\| |^(?:[A-Z_]+=\S+ )+)(gristmill .*)", line.strip()):
            yield call[1]


def _wrong(command: Any, example: str) -> str:
    """Follow the words to their command, and let its parser read the options. Nothing is run. Empty: nothing is wrong."""
    words, context = list(_words(example)), None
    try:
        while hasattr(command, "resolve_command"):
            context = command.context_class(command, parent=context, info_name="gristmill")
            words = command.make_parser(context).parse_args(words)[1]
            if not words:
                return ""
            _, command, words = command.resolve_command(context, words)
        command.make_parser(command.context_class(command, parent=context)).parse_args(words)
    except Exception as wrong:
        return getattr(wrong, "format_message", wrong.__str__)()
    return ""


def _words(example: str) -> Iterable[str]:
    """Words of a command; `[--a | --b]`, as usage lines have it, are words, too."""
    plain = re.sub(r"\[(-[^\]]*)\]", r"\1", example).replace(" | -", " -")
    for word in shlex.split(plain, comments=True)[1:]:
        if word in _ENDS or word == "|":
            return
        yield word
