"""The worker's commands join the command line: each says of itself what the list of commands says without loading it."""

import pytest
import typer

from gristmill.cli.commands import WORKERS
from gristmill.cli.root import build


@pytest.mark.parametrize("name", WORKERS)
def test_a_command_of_the_worker_is_what_the_list_of_commands_says(name: str) -> None:
    root = typer.main.get_group(build())
    told = root.commands[name].get_short_help_str(limit=62)
    _, command, _ = root.resolve_command(root.make_context("gristmill", [name, "--help"]), [name])
    assert command is not None
    assert told == command.get_short_help_str(limit=62)
    assert not told.endswith("...")
