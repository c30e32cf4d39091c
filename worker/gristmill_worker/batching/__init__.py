"""Texts of many parcels become batches for the one thread that owns the model: the only planner."""
