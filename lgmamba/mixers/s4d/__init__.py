"""S4D in Mamba's gated block: no step differs from another."""
