"""Probes: whether the workers of this machine are well, read from the pulse that each keeps. Standard library only."""
