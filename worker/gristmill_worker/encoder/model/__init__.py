"""What a model folder says: where it is, what it holds, how its texts become vectors. Loads no torch."""
