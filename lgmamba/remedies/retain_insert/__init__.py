"""Retention and insertion."""
