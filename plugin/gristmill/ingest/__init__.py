"""The way in: documents become parcels in the ledger and messages in the queue; jobs say what became of them."""
