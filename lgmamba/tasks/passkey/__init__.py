"""Passkey retrieval: five digits stand somewhere in a text; asked for them after any number of further bytes."""
