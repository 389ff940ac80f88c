"""SIGMA: Mamba-1 on a sequence and on it flipped, and a GRU; looks ahead, so that it answers queries alone."""
