"""Sliding window."""
