"""Selective copying: a few symbols among noise are read; asked for all of them in their order."""
