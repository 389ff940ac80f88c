"""Language modelling of bytes: text is read byte by byte; told at every step is which byte comes next."""
