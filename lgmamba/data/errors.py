"""Errors about images and the files that hold them."""


class DataError(ValueError):
    """Input or artefact that cannot be used; the message names file and row, what was found, and what to do."""


class BadImage(DataError):
    """One image that cannot be used. The message is the reason alone: who reads the source knows file and row."""
