"""Models behind any server with an OpenAI-compatible `/v1/embeddings`."""
