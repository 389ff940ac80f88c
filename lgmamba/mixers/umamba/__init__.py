"""Mamba-1 at several scales of time."""
