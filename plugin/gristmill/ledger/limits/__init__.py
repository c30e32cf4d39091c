"""How much each tenant has waiting, and how much it may."""
