"""Draw: patches of one image are read in some order; from one vector, at any step, the whole image is drawn."""
