"""What is there: the connection to Qdrant, collections and their descriptions, and the one reader of our payload record."""
