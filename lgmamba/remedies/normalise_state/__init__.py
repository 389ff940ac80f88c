"""State normalisation."""
