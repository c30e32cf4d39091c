"""How these pages become a site: `make docs-site`. It asks nothing of the network, and a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer  # type: ignore[import-untyped]  # it has no types
from sphinx.highlighting import lexers

import gristmill

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Gristmill"
author = "the Gristmill authors"
project_copyright = "the Gristmill authors. Apache-2.0"
version = release = gristmill.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "outside",
    "public_names",
    "search_in_chinese",
]
exclude_patterns = ["_extensions"]
nitpicky = True

myst_heading_anchors = 4
#: Blocks without a language are what a terminal shows.
highlight_language = "none"
#: Redis's users, one a line.
lexers["acl"] = TextLexer()

#: Docstrings are Markdown as far as code goes: `this` is code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"exclude-members": "KIND, model_config, model_post_init"}

#: Other people's types: their pages would have to be asked for over the network.
_FOREIGN = (
    "collections datetime decimal enum models numpy os pathlib pydantic pydantic_settings qdrant_client types typing"
)
#: Names of plain types, some with bounds, which pydantic says as it meets them.
_PLAIN = "CleanText Condition DocumentText Identifier IndexSettings Metadata ModelDigest Path Points Pooling"
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(_FOREIGN.split())}|uuid)\..*"),
    (r"py:.*", rf"({'|'.join(_PLAIN.split())}|Reason|SecretStr|Templates|Version|Weight|datetime|timedelta)"),
]

html_theme = "furo"
html_search_language = "pairs"
html_title = f"Gristmill {release}"
html_static_path: list[str] = []
html_show_sphinx = False
html_copy_source = False
html_theme_options: dict[str, Any] = {
    "source_repository": "https://github.com/gristmill/gristmill/",
    "source_branch": "main",
    "source_directory": "docs/",
}
