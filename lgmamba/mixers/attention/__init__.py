"""Causal softmax attention, the transformer's mixer."""
