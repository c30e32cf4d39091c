"""In which order parcels are given, in this process."""
