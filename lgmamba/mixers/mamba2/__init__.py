"""Mamba-2: one decay for each head."""
