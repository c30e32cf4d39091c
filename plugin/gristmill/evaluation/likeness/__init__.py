"""What vectors say of texts themselves, without a search: which are of a kind, and which say the same."""
