"""Gristmill in other frameworks' own terms; each brings its extra: `langchain`, `llamaindex`, `mcp`."""
