"""What is written down outside the code is what the code does: schema, settings, reference, links, the README's examples."""

import ast
import json
import re
from datetime import date
from itertools import islice
from pathlib import Path

import jsonschema
import pytest

import gristmill
from generated_pages import metrics_page, settings_page
from gristmill.search.filters import compile_filter
from gristmill.search.filters.grammar import OPERATORS
from gristmill.search.instructions import PRESETS
from gristmill_schemas import Document, JobReport, Outcome
from gristmill_schemas.export import json_schema
from gristmill_worker.demo.paragraphs import paragraphs
from gristmill_worker.process.metrics.catalogue import METRICS
from reference_pages import command_line_page, wire_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Pages that the site does not have.
OUTSIDE = [ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "compose").rglob("README.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_checked_in_json_schema_equals_the_code() -> None:
    kept = json.loads(_read("gristmill.schema.json"))
    assert kept == json.loads(json.dumps(json_schema())), "run: gristmill schema > docs/reference/gristmill.schema.json"


def test_the_json_schema_accepts_what_the_code_writes_and_refuses_what_it_refuses() -> None:
    schema = json_schema() | {"$ref": "#/$defs/Document"}
    document = Document(id="1", text="text", metadata={"a": [1, None]})
    jsonschema.validate(document.model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"id": "1"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"id": "1", "text": "t", "unknown": 1}, schema)


def test_the_settings_page_lists_every_setting_as_the_code_has_it() -> None:
    assert _read("settings.md") == settings_page(), "run: make docs"


def test_the_page_of_metrics_lists_every_metric_as_the_code_has_it() -> None:
    assert _read("metrics.md") == metrics_page(), "run: make docs"


def test_the_page_of_the_command_line_lists_every_command_as_it_is() -> None:
    assert _read("command-line.md") == command_line_page(), "run: make docs"


def test_the_page_of_the_wire_contract_lists_every_record_as_it_is() -> None:
    assert _read("wire.md") == wire_page(), "run: make docs"


def test_the_reference_of_python_has_a_place_for_every_public_name() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference" / "python").glob("*.md"))
    shown = set(re.findall(r"^\.\. auto\w+:: (\w+)$", pages, re.MULTILINE))
    assert sorted(set(gristmill.__all__) - shown) == ["__version__"], "add it to docs/reference/python"


def test_every_metric_that_the_pages_name_is_one() -> None:
    others = {"gristmill_worker", "gristmill_schemas", "gristmill_bulk", "gristmill_instruction"}
    names = r"(?<![\w/])gristmill_[a-z_]++(?![/*…]|\.\w)"
    named = {name for page in (*PAGES, *OUTSIDE) for name in re.findall(names, page.read_text("utf-8"))}
    series = {f"{name}{end}" for name in METRICS for end in ("", "_count", "_sum", "_bucket")}
    assert sorted(named - series - others) == []


def test_every_name_that_the_examples_import_exists() -> None:
    blocks = [
        block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 2
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "gristmill":
                assert {alias.name for alias in node.names} <= set(gristmill.__all__)


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", page.read_text("utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{path}#{anchor}"


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and the site have them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_test_that_the_promises_name_is_there() -> None:
    named = [name for page in OUTSIDE for name in re.findall(r"`(tests/[\w/]+\.\w+)`", page.read_text("utf-8"))]
    assert len(named) > 1
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_file_that_whoever_carries_on_is_sent_to_is_there() -> None:
    named = re.findall(r"[ `]([\w./-]+\.(?:py|md|lua|toml))\b", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    places = [ROOT, *(ROOT / "plugin" / "gristmill").glob("**/"), *(ROOT / "tests" / "unit").iterdir()]
    assert len(named) > 10
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_reference_explains_every_counter_of_a_job() -> None:
    explained = set(re.findall(r"`(\w+)`", _section("Counters of a job")))
    counters = {name for name, field in JobReport.model_fields.items() if field.annotation in (int, float)}
    assert counters <= explained
    assert set(Outcome) <= explained


def test_every_filter_on_its_page_is_one_and_every_operator_has_a_row() -> None:
    page = _read("filters.md")
    rows = re.findall(r"^\| `(\{.*?\})` \|", page, re.MULTILINE)
    for row in rows:
        assert compile_filter(eval(row, {"date": date})) is not None
    assert {operator for operator in OPERATORS if not any(f'"{operator}"' in row for row in rows)} == {"gt", "lte"}


def test_the_page_of_instructions_shows_every_preset() -> None:
    rows = re.findall(r"^\| `(preset:[a-z:]+)` \| (.*?) \|", _read("instructions.md"), re.MULTILINE)
    assert rows == [(each.reference, each.text) for each in PRESETS]


def test_the_readme_searches_for_a_name_that_its_documents_have() -> None:
    (count,) = re.findall(r"demo\.paragraphs (\d+) >", README)
    (name,) = re.findall(r'search docs "(\w+)" --mode hybrid', README)
    assert any(name in document.text for document in islice(paragraphs(), int(count)))


def test_the_readme_is_short_and_leaves_the_rest_to_its_pages() -> None:
    assert len(README.splitlines()) <= 100


def _section(title: str) -> str:
    return _read("client.md").split(f"## {title}\n")[1].split("\n## ")[0]


def _read(page: str) -> str:
    (found,) = (ROOT / "docs").rglob(page)
    return found.read_text("utf-8")


def test_the_readmes_whole_example_runs_and_finds_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    block = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    # The model hub is not part of a test: a stand-in encoder takes the model's place, all else is as written.
    exec(compile(block.replace("Qwen/Qwen3-Embedding-0.6B", "hash:64"), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert {line.split()[1] for line in lines} == {"42", "43"}
