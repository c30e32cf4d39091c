"""What runs on the nodes that encode: Celery tasks, batcher, encoder, sink and reconciler."""
