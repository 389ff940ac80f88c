"""Mamba-3: decays made of the input, rotations, and a step that completes the write of the one before."""
