"""Pages of `docs/` that are made from the code. `make docs` writes them; a test keeps them equal to it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic_core import PydanticUndefined

from gristmill.settings import variable
from gristmill_worker.settings import WorkerSettings
from wrong_inputs import collect, page_of

DOCS = Path(__file__).parents[1] / "docs"

_SETTINGS = """# Settings

Environment variables, or a `.env` file in the working directory; the variable wins. A client takes each by its name
without the prefix: `Client(redis_url=…)`. `gristmill doctor` shows every one with its value (secrets hidden) and its source.

<!-- Made by `make docs` from the settings classes: change those. -->
"""


def settings_page() -> str:
    """`docs/settings.md`: every setting with its default and its meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in WorkerSettings.model_fields.items():
        default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        rows.append(f"| `{variable(name)}` | {default} | {field.description} |")
    return _SETTINGS + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    # Its small models need torch, and the tests that only want the settings page do not.
    from families import page

    with TemporaryDirectory() as scratch:
        (DOCS / "models.md").write_text(page(Path(scratch)), encoding="utf-8")
    (DOCS / "settings.md").write_text(settings_page(), encoding="utf-8")
    (DOCS / "wrong-inputs.md").write_text(page_of(collect()), encoding="utf-8")
