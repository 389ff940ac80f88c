"""Inverse sequence matching: five orders of three numbers are read; asked which of them it is that is shown reversed."""
