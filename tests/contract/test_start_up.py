"""What starts quickly stays quick: not by the clock, which depends on the machine, but by what is loaded."""

import json
import subprocess
import sys

import pytest
import typer

from gristmill.cli.commands import OWN
from gristmill.cli.root import build

#: Nobody who asks for help, or imports a name, has asked for these yet.
HEAVY = {"pydantic", "qdrant_client", "redis", "numpy", "rich", "httpx", "celery", "grpc", "torch", "gristmill_worker"}


def loaded_by(program: str) -> set[str]:
    """Top-level modules that a program has loaded when it ends."""
    report = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))"
    done = subprocess.run([sys.executable, "-c", f"{report}\n{program}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr)}


def test_importing_gristmill_loads_no_library_before_a_name_is_used() -> None:
    assert loaded_by("import gristmill; gristmill.__version__; dir(gristmill)") & (HEAVY | {"typer"}) == set()


def test_the_help_of_the_command_line_loads_no_command() -> None:
    program = "import sys; sys.argv = ['gristmill', '--help']; from gristmill.cli.root import main; main()"
    assert loaded_by(program) & HEAVY == set()


def test_a_probe_loads_no_command_line() -> None:
    program = (
        "import contextlib, sys; sys.argv = ['gristmill', 'health', '--live']; from gristmill.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main()"
    )
    assert loaded_by(program) & (HEAVY | {"typer", "gristmill_schemas", "asyncio", "logging"}) == set()


LEAVING = """
import atexit, sys
from gristmill.__main__ import main
from gristmill.cli import root

class Module:
    def __del__(self):
        print("taken apart")

loaded, build = Module(), root.build
root.build = lambda: atexit.register(print, "goodbye") and build()
sys.argv = ["gristmill", "nonsense"]
main()
"""


def test_a_program_that_has_ended_leaves_at_once_with_its_code_and_all_its_words() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "goodbye\n")
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("name", OWN)
def test_a_command_says_of_itself_what_the_list_of_commands_says(name: str) -> None:
    root = typer.main.get_group(build())
    told = root.commands[name].get_short_help_str(limit=62)
    _, command, _ = root.resolve_command(root.make_context("gristmill", [name, "--help"]), [name])
    assert command is not None
    assert told == command.get_short_help_str(limit=62)
    assert not told.endswith("...")
