"""PD-SSM: a permutation-like matrix times a diagonal one, both chosen by the input."""
