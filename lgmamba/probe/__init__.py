"""Probes: what a trained model draws of held-out images after each step, and what of an image it has kept.

Glossary: M images, R visiting orders an image, S steps looked at, G grid cells, T steps of the longest sequence; t steps
read so far, counted from 1; age = steps since a cell was last read (0: just read, -1: never).
"""
