"""A prefix-scannable layer: chunks are summed up by attention, along a fixed tree."""
