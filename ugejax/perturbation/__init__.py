"""Perturbations: what delta may be, how it is updated and how it becomes 8-bit pixels."""
