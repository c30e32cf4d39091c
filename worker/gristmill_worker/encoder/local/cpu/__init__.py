"""What runs on a processor's cores: products, fused modules and attention that suit them, and who computes on how many."""
