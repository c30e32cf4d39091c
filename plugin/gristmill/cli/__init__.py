"""The command line: `gristmill …`. Typer for the commands, Rich for people, one JSON object for scripts."""
