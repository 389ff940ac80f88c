"""What goes wrong with a model, a text or a remedy of somebody else, said so that a person can put it right."""


class HostError(ValueError):
    """A model, a text or a remedy that does not fit; the message says what was found and what was expected."""
