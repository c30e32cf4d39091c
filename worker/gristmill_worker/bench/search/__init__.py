"""`gristmill bench search`: what a search costs beside the raw client, beside encoding, under bulk load, and on threads."""
