"""LongMamba."""
