"""A transformer whose encoder reads all steps at once, and whose decoder answers queries."""
