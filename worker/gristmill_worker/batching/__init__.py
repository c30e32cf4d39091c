"""Texts of many parcels become batches for the threads that own the model: the only planner."""
