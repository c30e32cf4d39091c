"""`python -m gristmill`, the same as the `gristmill` program."""

from gristmill.cli.root import main

if __name__ == "__main__":
    main()
