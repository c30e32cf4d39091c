"""The shape of the distribution: light to import, three packages and nothing else, dependencies one way only."""

import ast
import importlib
import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hatchling.builders.wheel import WheelBuilder

REPO = Path(__file__).parents[2]
#: Every package with the folder that says its role.
ROOTS = {"gristmill_schemas": "schemas", "gristmill": "plugin", "gristmill_worker": "worker"}
#: Bytecode is the only thing that may lie beside a package.
IGNORED = {"__pycache__"}
#: In one folder, so that each stays one concern: about a dozen.
MOST_MODULES = 15

for_each_package = pytest.mark.parametrize("package", sorted(ROOTS))


def test_importing_gristmill_loads_neither_torch_nor_transformers_nor_celery() -> None:
    program = "import gristmill, json, sys; print(json.dumps(list(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    loaded = {name.partition(".")[0] for name in json.loads(answer.stdout)}
    assert loaded & {"torch", "transformers", "celery", "gristmill_worker"} == set()


@for_each_package
def test_each_source_root_holds_exactly_one_package(package: str) -> None:
    found = {entry.name for entry in (REPO / ROOTS[package]).iterdir()} - IGNORED
    assert found == {package}


@for_each_package
def test_each_package_is_typed(package: str) -> None:
    assert (folder(package) / "__init__.py").is_file()
    assert (folder(package) / "py.typed").is_file()


def test_the_wheel_holds_exactly_the_three_packages(wheel_names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOTS)


@for_each_package
def test_the_wheel_holds_every_file_of_a_package(package: str, wheel_names: set[str]) -> None:
    files = {path.relative_to(folder(package).parent).as_posix() for path in files_of(package)}
    assert files - wheel_names == set()


def test_the_page_on_pypi_is_the_readme_with_links_that_lead_there_too(wheel: zipfile.ZipFile) -> None:
    (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
    shown = wheel.read(name).decode().partition("\n\n")[2]
    readme, lead = (REPO / "README.md").read_text("utf-8"), "https://github.com/gristmill/gristmill/blob/main/"
    relative = re.compile(r"\]\((?!\w+:)([^)]+)\)")
    assert len(relative.findall(readme)) > 50
    assert shown == relative.sub(rf"]({lead}\1)", readme)
    assert [each for each in re.findall(rf"{lead}([^)#]+)", shown) if not (REPO / each).exists()] == []


def test_the_schemas_import_pydantic_and_the_standard_library_alone() -> None:
    allowed = sys.stdlib_module_names | {"gristmill_schemas", "pydantic", "pydantic_core", "typing_extensions"}
    assert [f"{place}: {top}" for place, top in imports_of("gristmill_schemas") if top not in allowed] == []


def test_the_plugin_never_imports_the_worker_nor_what_only_workers_install() -> None:
    forbidden = {"gristmill_worker", "torch", "transformers", "tokenizers", "safetensors"}
    assert [f"{place}: {top}" for place, top in imports_of("gristmill") if top in forbidden] == []


@for_each_package
def test_no_folder_has_more_than_about_a_dozen_modules(package: str) -> None:
    rooms = Counter(path.parent for path in files_of(package) if path.suffix == ".py" and path.name != "__init__.py")
    assert {str(room.relative_to(REPO)): n for room, n in rooms.items() if n > MOST_MODULES} == {}


@pytest.mark.parametrize("package", ["gristmill", "gristmill_schemas"])
def test_the_public_names_are_sorted_and_all_there(package: str) -> None:
    module = importlib.import_module(package)
    names: list[str] = module.__all__
    assert names == sorted(names, key=constants_then_classes)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", ["gristmill", "gristmill_schemas"])
def test_nothing_is_public_by_accident(package: str) -> None:
    module = importlib.import_module(package)
    public = {name for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert public - set(module.__all__) - {"annotations"} == set()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built as pip builds it but from this environment, so without a network."""
    target = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(REPO)).build(directory=str(target), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.fixture(scope="session")
def wheel_names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def folder(package: str) -> Path:
    return REPO / ROOTS[package] / package


def files_of(package: str) -> Iterator[Path]:
    return (path for path in folder(package).rglob("*") if path.is_file() and not IGNORED.intersection(path.parts))


def imports_of(package: str) -> Iterator[tuple[str, str]]:
    """Yield place and top-level name of every absolute import, those inside functions included."""
    for path in files_of(package):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_bytes())):
                yield from ((f"{path.relative_to(REPO)}:{line}", top) for line, top in imported(node))


def imported(node: ast.AST) -> list[tuple[int, str]]:
    if isinstance(node, ast.Import):
        return [(node.lineno, alias.name.partition(".")[0]) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [(node.lineno, node.module.partition(".")[0])]
    return []


def constants_then_classes(name: str) -> tuple[bool, bool, str]:
    """Order names as ruff's RUF022 does: CONSTANTS, Classes, then the rest."""
    return not name.isupper(), not name[:1].isupper(), name
