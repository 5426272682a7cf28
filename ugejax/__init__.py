"""Conditionally learnable image datasets in JAX (UnGeneralizable Examples)."""

__version__ = "0.1.0"
