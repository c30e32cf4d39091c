"""HTTP: OpenAI's, Cohere's and rerank routes, probes and metrics, on the encoder and batcher of this process."""
