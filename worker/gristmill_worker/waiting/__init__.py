"""Waiting: for servers that are away, for collections that are missing, for proof that a death is deserved."""
