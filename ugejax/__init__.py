"""Conditionally learnable image datasets in JAX (UnGeneralizable Examples)."""
