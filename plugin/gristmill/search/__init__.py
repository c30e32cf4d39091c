"""The way out: a query and its instruction become a vector, Qdrant's points become hits."""
