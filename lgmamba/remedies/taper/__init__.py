"""Decays that fall with the step."""
