"""How long a test waits for another program: no test depends on the clock, only a program that hangs ends one."""

HANGS = 3600
"""Seconds that no program of the tests takes, on the busiest machine."""
