"""Mamba-1 between two hyperbolic maps."""
