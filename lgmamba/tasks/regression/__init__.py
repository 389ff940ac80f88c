"""In-context linear regression: pairs (x, w.x) of an unknown w are read; asked for w.x of another x, at any step."""
