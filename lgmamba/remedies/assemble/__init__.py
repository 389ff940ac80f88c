"""Assembly from windows."""
