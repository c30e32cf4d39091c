"""One operating-system process: Celery, the supervisor above it, its watches, the query lane, the reconciler."""
