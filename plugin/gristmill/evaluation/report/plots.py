"""The plots of a report: each a function of arrays and texts, without a collection or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gristmill.evaluation.report.page import Plot, safe
from gristmill.extras import brought_by

Matrix = npt.NDArray[np.float32]

_SEED = 20_260_301
#: From so many documents on neighbours (t-SNE) are shown rather than the two directions of most variance (PCA).
_NEIGHBOURS_FROM = 50
#: Colours that people with any kind of colour blindness tell apart (Okabe and Ito, 2008), and marks beside them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star")
#: Height of a question's bar, and of all of them at least.
_BAR_PX, _LEAST_PX = 18, 260
#: Values of a field with a colour of their own; the others share the last.
_MOST_VALUES = len(_COLOURS) - 1


def _go() -> Any:
    with brought_by("eval", "a report"):
        import plotly.graph_objects
    return plotly.graph_objects


def similarities(vectors: Matrix, labels: Sequence[str]) -> Plot:
    """Cosines of each document with each other.

    Args:
        vectors: float32 (n, D), of unit length.
        labels: n.
    """
    go, cosines = _go(), np.clip(vectors @ vectors.T, -1, 1)
    names = [f"{number}. {safe(label, 12)}" for number, label in enumerate(labels, 1)]
    numbers = [f"{number}." for number in range(1, len(labels) + 1)]  # narrow windows have no room for names twice
    heat = go.Heatmap(z=cosines.round(4), x=numbers, y=names, colorscale="Cividis", colorbar={"thickness": 12})
    figure = go.Figure(heat)
    figure.update_yaxes(autorange="reversed")
    return Plot("How alike documents are", f"Cosines of {len(labels)} documents, each with each.", figure)


def map_of(vectors: Matrix, labels: Sequence[str], values: Sequence[object], field: str | None) -> Plot:
    """Documents on a plane, coloured by a field.

    Args:
        vectors: float32 (n, D), of unit length; at least two.
        labels: n, shown where the pointer is.
        values: n, of the field.
        field: its name; None where there is nothing to colour by.
    """
    go, (places, how) = _go(), _on_a_plane(vectors)
    figure = go.Figure()
    for number, (value, rows) in enumerate(_by_value(values).items()):
        figure.add_scatter(
            x=places[rows, 0],
            y=places[rows, 1],
            mode="markers",
            name=safe(value, 24),
            text=[safe(labels[row]) for row in rows],
            hoverinfo="text+name",
            marker={"color": _COLOURS[number], "symbol": _MARKS[number], "size": 8, "opacity": 0.85},
        )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    coloured = f", coloured by {field}" if field else ""
    told = f"{len(labels)} documents{coloured}. {how}"
    return Plot("A map of the documents", told, figure)


def _on_a_plane(vectors: Matrix) -> tuple[npt.NDArray[Any], str]:
    with brought_by("eval", "a map"):
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    if len(vectors) < _NEIGHBOURS_FROM:
        found = PCA(2, random_state=_SEED).fit(vectors)
        share = float(found.explained_variance_ratio_.sum())
        return found.transform(vectors), f"By PCA: the two directions shown have {share:.0%} of the variance."
    perplexity = min(30, len(vectors) // 4)
    placed = TSNE(2, perplexity=perplexity, init="pca", metric="cosine", random_state=_SEED).fit_transform(vectors)
    return placed, f"By t-SNE (perplexity {perplexity}): neighbours mean something, distances between groups do not."


def _by_value(values: Sequence[object]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault("(none)" if value is None else str(value), []).append(row)
    ordered = sorted(rows.items(), key=lambda each: -len(each[1]))
    kept, rest = dict(ordered[:_MOST_VALUES]), [row for _, some in ordered[_MOST_VALUES:] for row in some]
    return kept | ({"(others)": rest} if rest else {})


def gains(changes: Mapping[str, float], names: tuple[str, str]) -> Plot:
    """Per question what the first configuration has more of 1 / rank than the second; those that differ."""
    go = _go()
    ordered = sorted(changes.items(), key=lambda each: each[1])
    won = sum(value > 0 for _, value in ordered)
    figure = go.Figure(
        go.Bar(
            x=[round(value, 4) for _, value in ordered],
            y=[f"{number}. {safe(question, 18)}" for number, (question, _) in enumerate(ordered, 1)],
            orientation="h",
            marker={"color": [_COLOURS[0] if value > 0 else _COLOURS[1] for _, value in ordered]},
        )
    )
    figure.update_layout(height=max(_LEAST_PX, _BAR_PX * len(ordered)))
    figure.update_xaxes(title="gain in 1 / rank", range=[-1.05, 1.05])
    told = f"{names[0]} against {names[1]}: {won} questions won, {len(ordered) - won} lost; equal ones are left out."
    return Plot("Gains and losses, question by question", told, figure)


def score_distributions(right: Sequence[float], wrong: Sequence[float]) -> Plot:
    """Scores of hits that were expected, and of those that were not."""
    go = _go()
    figure = go.Figure()
    for name, scores, colour in (("right", right, _COLOURS[0]), ("wrong", wrong, _COLOURS[1])):
        figure.add_histogram(
            x=list(scores), name=name, histnorm="probability", opacity=0.6, nbinsx=30, marker={"color": colour}
        )
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title="score")
    figure.update_yaxes(title="share of its hits")
    told = f"{len(right)} hits that were expected, {len(wrong)} that were not; the less the two overlap, the better."
    return Plot("Scores of right and wrong hits", told, figure)


def recall_against_latency(points: Mapping[str, tuple[float, float]]) -> Plot:
    """By the name of a way of searching its median milliseconds and its Recall@10."""
    go = _go()
    figure = go.Figure(
        go.Scatter(
            x=[round(milliseconds, 3) for milliseconds, _ in points.values()],
            y=[round(recall, 4) for _, recall in points.values()],
            text=[safe(name, 24) for name in points],
            mode="markers+text",
            textposition="top center",
            marker={"size": 12, "color": _COLOURS[0]},
            cliponaxis=False,
        )
    )
    figure.update_xaxes(title="median milliseconds per search", rangemode="tozero")
    figure.update_yaxes(title="Recall@10", range=[0, 1.1])
    told = "; ".join(
        f"{name}: {recall:.3f} in {milliseconds:.1f} ms" for name, (milliseconds, recall) in points.items()
    )
    return Plot("Recall against latency", f"{told}. Up and to the left is better.", figure)
