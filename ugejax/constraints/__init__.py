"""What a released image must keep to: the budget, the blind set, 8 bits."""
