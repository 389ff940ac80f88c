"""A mixer of the user's own, from a module that is not part of this package."""
