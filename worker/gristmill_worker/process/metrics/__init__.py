"""What Prometheus and probes read of a worker, on a small port of its own."""
