"""What is written down outside the code is what the code does: schema, settings, reference, links, the README's examples."""

import ast
import json
import re
from datetime import date
from pathlib import Path

import jsonschema
import pytest

import gristmill
from generated_pages import settings_page
from gristmill.search.filters import compile_filter
from gristmill.search.filters.grammar import OPERATORS
from gristmill.search.instructions import PRESETS
from gristmill_schemas import Document, JobReport, Outcome
from gristmill_schemas.export import json_schema

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_checked_in_json_schema_equals_the_code() -> None:
    kept = json.loads((ROOT / "docs" / "gristmill.schema.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(json_schema())), "run: gristmill schema > docs/gristmill.schema.json"


def test_the_json_schema_accepts_what_the_code_writes_and_refuses_what_it_refuses() -> None:
    schema = json_schema() | {"$ref": "#/$defs/Document"}
    document = Document(id="1", text="text", metadata={"a": [1, None]})
    jsonschema.validate(document.model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"id": "1"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"id": "1", "text": "t", "unknown": 1}, schema)


def test_the_settings_page_lists_every_setting_as_the_code_has_it() -> None:
    kept = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert kept == settings_page(), "run: make docs"


def test_every_name_that_the_examples_import_exists() -> None:
    blocks = [
        block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 2
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "gristmill":
                assert {alias.name for alias in node.names} <= set(gristmill.__all__)


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_reference_explains_every_counter_of_a_job() -> None:
    explained = set(re.findall(r"`(\w+)`", _section("Counters of a job")))
    counters = {name for name, field in JobReport.model_fields.items() if field.annotation in (int, float)}
    assert counters <= explained
    assert set(Outcome) <= explained


def test_every_filter_on_its_page_is_one_and_every_operator_has_a_row() -> None:
    page = (ROOT / "docs" / "filters.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\{.*?\})` \|", page, re.MULTILINE)
    for row in rows:
        assert compile_filter(eval(row, {"date": date})) is not None
    assert {operator for operator in OPERATORS if not any(f'"{operator}"' in row for row in rows)} == {"gt", "lte"}


def test_the_page_of_instructions_shows_every_preset() -> None:
    rows = re.findall(r"^\| `(preset:[a-z:]+)` \| (.*?) \|", _read("instructions.md"), re.MULTILINE)
    assert rows == [(each.reference, each.text) for each in PRESETS]


def test_the_readme_is_short_and_leaves_the_rest_to_its_pages() -> None:
    assert len(README.splitlines()) <= 100


def _section(title: str) -> str:
    return _read("reference.md").split(f"## {title}\n")[1].split("\n## ")[0]


def _read(page: str) -> str:
    return (ROOT / "docs" / page).read_text("utf-8")


def test_the_readmes_whole_example_runs_and_finds_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    # The model hub is not part of a test: a stand-in encoder takes the model's place, all else is as written.
    exec(compile(block.replace("Qwen/Qwen3-Embedding-0.6B", "hash:64"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert {line.split()[1] for line in lines} == {"42", "43"}
