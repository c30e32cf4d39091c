"""How a model runs on this machine: loading, tokenizing, the packed forward pass, its checks and its token budget."""
