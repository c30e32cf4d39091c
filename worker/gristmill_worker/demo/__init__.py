"""What the demo runs on: a real small model, real text to ingest, and searches worth looking at."""
