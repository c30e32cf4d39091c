"""How good searches are, in figures with intervals: labelled questions, pairs and groups, and what an instruction gains."""
