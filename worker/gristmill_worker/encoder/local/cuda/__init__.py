"""What runs on an NVIDIA card: attention over packed texts, and decoder layers with fewer passes over their rows."""
