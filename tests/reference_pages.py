"""Reference pages that are made from the code: the command line, and the records that go over a wire or are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import typer.main
from sphinx.pycode import ModuleAnalyzer

from gristmill.cli.root import build
from gristmill_schemas.export import json_schema
from gristmill_schemas.stored import Stored
from gristmill_schemas.validation import Record

_COMMANDS = """# Command line

`gristmill COMMAND -h` says the same. `--json` prints one JSON object on stdout and nothing else. What is returned:
[exit codes](client.md#exit-codes).

<!-- Made by `make docs` from the commands themselves: change those. -->
"""
_WIRE = """# Wire contract

Every record that goes over a wire or is stored, for producers and readers in other languages. The same as JSON Schema:
[gristmill.schema.json](gristmill.schema.json), which `gristmill schema` prints. Unknown fields of what goes in are refused;
of what comes back they are to be ignored. A point's payload in Qdrant is the document's metadata, its text under the
collection's text key, and a [PointSystem](#pointsystem) under `_gristmill`.

<!-- Made by `make docs` from `gristmill_schemas`: change that. -->
"""
#: Keywords of a JSON Schema that bound a value, as they are written here.
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "pattern": "matches `{}`",
}


def command_line_page() -> str:
    """`docs/reference/command-line.md`: every command with its arguments and options."""
    return _COMMANDS + "\n" + "\n".join(_group(typer.main.get_command(build()), None, "gristmill")).rstrip() + "\n"


def wire_page() -> str:
    """`docs/reference/wire.md`: every record with its fields, their types, bounds and meanings."""
    definitions = json_schema()["$defs"]
    comments = {kind.__name__: _comments(kind) for kind in _records()}
    return _WIRE + "".join(_record(name, definitions[name], comments.get(name, {})) for name in sorted(definitions))


def _group(group: Any, parent: Any, name: str) -> Iterator[str]:
    context = group.context_class(group, parent=parent, info_name=name)
    for each in group.list_commands(context):
        _, command, _ = group.resolve_command(context, [each])
        if hasattr(command, "list_commands"):
            yield from _group(command, context, each)
        else:
            yield from _command(command, context, each)


def _command(command: Any, parent: Any, name: str) -> Iterator[str]:
    context = command.context_class(command, parent=parent, info_name=name)
    yield f"## {context.command_path}\n"
    yield f"```\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield _plain(command.help or "")
    yield "| argument, option | meaning |\n|---|---|"
    for parameter in command.params:
        if record := parameter.get_help_record(context):
            yield f"| `{record[0].replace('|', '/')}` | {_cell(record[1])} |"
    yield ""


def _plain(text: str) -> str:
    return re.sub(r"[\b\f]", "", text).strip() + "\n"


def _records() -> Iterator[type]:
    waiting: list[type] = [Record, Stored, *StrEnum.__subclasses__()]
    while waiting:
        waiting += (kind := waiting.pop()).__subclasses__()
        yield kind


def _comments(kind: type) -> dict[str, str]:
    """What stands above the fields of a record and of those that it extends, after `#:`."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__.startswith("gristmill"):
            documented = ModuleAnalyzer.for_module(each.__module__).find_attr_docs()
            found |= {
                name: " ".join(lines).strip() for (owner, name), lines in documented.items() if owner == each.__name__
            }
    return {str(getattr(kind, name)): said for name, said in found.items()} if issubclass(kind, StrEnum) else found


def _record(name: str, schema: dict[str, Any], comments: dict[str, str]) -> str:
    head = f"\n## {name}\n\n{_plain(schema.get('description', ''))}\n"
    if "enum" in schema:
        rows = [f"| `{value}` | {_cell(comments.get(value, ''))} |" for value in schema["enum"]]
        return head + "\n".join(["| value | meaning |", "|---|---|", *rows, ""])
    if "properties" not in schema:
        return f"{head}{_kind(schema)}\n"
    rows = [
        f"| `{field}` | {_kind(about)} | {_default(field, about, schema)} | {_cell(comments.get(field, ''))} |"
        for field, about in schema["properties"].items()
    ]
    return head + "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _default(field: str, about: dict[str, Any], schema: dict[str, Any]) -> str:
    if field in schema.get("required", ()):
        return "required"
    return f"`{about['default']}`" if about.get("default") is not None else ""


def _kind(about: dict[str, Any]) -> str:
    if "$ref" in about:
        name = about["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in about:
        return " or ".join(map(_kind, about["anyOf"]))
    if "enum" in about or "const" in about:
        return ", ".join(f"`{value}`" for value in about.get("enum", [about.get("const")]))
    plain = str(about.get("type", "anything"))
    inner = f" of {_kind(about['items'])}" if "items" in about else ""
    bounds = "".join(f", {text.format(_cell(str(about[word])))}" for word, text in _BOUNDS.items() if word in about)
    return plain + inner + bounds


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
