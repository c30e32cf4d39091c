"""Licences of what `pip install 'gristmill[EXTRAS]'` brings: each is one of those below, or this fails and names it.

Reads the JSON of `pip-licenses --from=mixed --format=json` on standard input. Development tools are not distributed, and not
looked at: what counts is what the users' extras of pyproject.toml require, directly and through others.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

#: What users install; `dev` and `bench` are for whoever works on Gristmill.
EXTRAS = ("worker", "files", "docs", "serve", "eval", "langchain", "llamaindex", "mcp", "demo")
#: Permissive ones, and weak copyleft of files or libraries that are used as they are.
ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|Zlib|0BSD|CC0|CNRI|HPND|Public Domain|LGPL|"
    r"Lesser General Public"
)
#: Looked up by hand, since their metadata say nothing or more than is meant.
KNOWN: dict[str, str] = {}


def brought(name: str, extras: frozenset[str], found: dict[NormalizedName, set[str]]) -> None:
    """Add a package and whatever it requires to `found`, by canonical name and with its extras."""
    key = canonicalize_name(name)
    if key in found and extras <= found[key]:
        return
    found.setdefault(key, set()).update(extras)
    try:
        wanted = requires(name) or []
    except PackageNotFoundError:  # for another platform
        return
    for each in map(Requirement, wanted):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            brought(each.name, frozenset(each.extras), found)


def main() -> int:
    """Print what is not allowed; 1 if anything is."""
    found: dict[NormalizedName, set[str]] = {}
    brought("gristmill", frozenset(EXTRAS), found)
    rows: dict[str, str] = {canonicalize_name(row["Name"]): row["License"] for row in json.load(sys.stdin)}
    ours = {name: KNOWN.get(name, rows[name]) for name in sorted(found) if name in rows}
    refused = {name: licence for name, licence in ours.items() if not ALLOWED.search(licence)}
    for name, licence in refused.items():
        print(f"{name}: {licence[:80]!r} is not allowed by scripts/licenses.py: look at it, then allow or replace it")
    print(f"{len(ours)} packages that users install, {len(refused)} with a licence that is not allowed")
    return bool(refused or not ours)


if __name__ == "__main__":
    sys.exit(main())
