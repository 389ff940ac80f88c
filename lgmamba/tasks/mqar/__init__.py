"""Multi-query associative recall: pairs of a key and a value are read; asked for the values of keys."""
