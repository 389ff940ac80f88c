"""Spectrum of A."""
