"""What a worker's log says, and how: lines for people or objects for programs, floods told by their number."""
