"""DeciMamba."""
