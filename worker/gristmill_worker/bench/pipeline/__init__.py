"""`gristmill bench pipeline`: the whole way of documents, against a raw upload, the encoder alone and peers."""
