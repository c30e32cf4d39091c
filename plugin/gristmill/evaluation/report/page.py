"""One self-contained HTML file out of plots. What comes from outside is text in it, whatever it holds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gristmill.extras import brought_by

_STYLE = """
:root { color-scheme: light; font-family: system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
body { margin: 0 auto; max-width: 1120px; padding: 0 16px 48px; color: #1c2430; background: #fff; line-height: 1.5; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; max-width: 75ch; overflow-wrap: anywhere; }
.plot { width: 100%; overflow: hidden; }
"""
_HEIGHT_PX = 420


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its heading, and what is to be seen on it in words: for those who cannot see it, too."""

    title: str
    #: A sentence or two.
    told: str
    #: plotly's `Figure`.
    figure: Any


def safe(text: object, longest: int = 40) -> str:
    """A text for a label of plotly, which takes tags for markup; long ones end in an ellipsis."""
    line = " ".join(str(text).split())
    return html.escape(line if len(line) <= longest else f"{line[: longest - 1]}…")


def page(title: str, told: str, plots: Sequence[Plot]) -> str:
    """The whole file.

    Args:
        title: its heading.
        told: what it is about, under the heading.
        plots: from top to bottom.

    Raises:
        NotInstalled: the extra `eval` is missing.
    """
    with brought_by("eval", "a report"):
        from plotly.offline import get_plotlyjs
    sections = "\n".join(_section(plot, number) for number, plot in enumerate(plots))
    heading = html.escape(title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<link rel="icon" href="data:,">
<title>{heading}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<main>
<h1>{heading}</h1>
<p>{html.escape(told)}</p>
{sections}
</main>
</body>
</html>
"""  # noqa: E501  # the policy is one attribute


def _section(plot: Plot, number: int) -> str:
    plot.figure.update_layout(
        template="plotly_white",
        height=plot.figure.layout.height or _HEIGHT_PX,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"family": "inherit"},
    )
    plot.figure.update_xaxes(automargin=True)
    plot.figure.update_yaxes(automargin=True)
    drawn = plot.figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"plot-{number}",
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    heading, told = html.escape(plot.title), html.escape(plot.told)
    return (
        f'<section aria-labelledby="title-{number}">\n<h2 id="title-{number}">{heading}</h2>\n<p>{told}</p>\n'
        f'<div class="plot" role="img" aria-label="{html.escape(f"{plot.title}: {plot.told}", quote=True)}">{drawn}</div>\n'
        "</section>"
    )
