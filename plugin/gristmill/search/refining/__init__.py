"""What changes which hits come, in which order and with what: boosts, diversity, payload, and an order that ties keep."""
