"""Before a job: what would become of documents, how long it would take, and how many bytes; nothing is written.

estimator   the stream, and the sums
forecast    what would become of each document: the seam to the worker's code
rates       how fast the workers are
pace        what a token costs, from how long requests took
sizes       bytes in Redis and in Qdrant
"""
