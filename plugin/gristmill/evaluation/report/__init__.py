"""What was measured, as one page to look at: plots of plotly, everything inside the file, nothing from the network."""

from gristmill.evaluation.report.page import Plot, page

__all__ = ["Plot", "page"]
