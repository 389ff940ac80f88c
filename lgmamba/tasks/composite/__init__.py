"""Composite functions: a number and two functions are read; asked for what the second makes of what the first makes of it."""
