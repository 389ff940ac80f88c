"""Gated DeltaNet: content is overwritten by key."""
