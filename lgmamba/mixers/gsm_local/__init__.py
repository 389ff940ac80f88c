"""Attention over the last steps, and Mamba-1 that starts empty every so many of them."""
