"""What remedies do beyond the training length: all read on the same images and orders, so that every comparison is paired.

collect      the files of the stage `remedy`, checked, as one matrix of per-image errors
frames       levels, differences, cost, retention of every remedy
figure_data  the frames that the figures of remedies draw
"""

VANILLA = "vanilla"
VANILLA_STREAM = "vanilla_stream"
"""A length-adaptive run that is told L0 all the way; a plain run reads the same in both modes."""
AT_L0 = "itself at L0"
BEST_CONTROL = "the best control"
BEYOND = 2.0
"""Multiples of L0 from which on remedies are compared."""
