"""Queries in a worker: taken from their Redis list as fast as they are answered, encoded before all bulk work."""
