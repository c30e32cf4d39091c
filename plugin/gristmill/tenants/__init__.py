"""A client of one tenant: the same calls, and no way out of them."""
