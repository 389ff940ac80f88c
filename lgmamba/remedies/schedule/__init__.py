"""Gains that follow t."""
