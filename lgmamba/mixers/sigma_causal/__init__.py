"""Mamba-1 and a GRU side by side, gated: SIGMA without what looks ahead."""
