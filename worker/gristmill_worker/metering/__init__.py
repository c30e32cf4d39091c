"""What a worker counts and times, at next to no cost, whether anybody looks or not."""
