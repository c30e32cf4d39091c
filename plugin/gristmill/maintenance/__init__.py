"""Looking after it: audits, receipts, dead letters and refused messages."""
