"""Benchmarks: what Gristmill does on this machine, against its own ceiling and its peers, in the same run."""
