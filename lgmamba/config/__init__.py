"""Configuration: strict pydantic models of params.yaml, one module per section, and their expansion into runs."""
