"""What remedies do beyond the training length: all read on the same images and orders, so that every comparison is paired.

collect   the files of the stage `remedy`, checked, as one matrix of per-image errors
frames    levels, differences, cost, retention of every remedy
claims    C6 and following, one for each remedy; and the goals that no remedy may miss
drawn     the frames that the figures of remedies draw
"""

VANILLA = "vanilla"
VANILLA_STREAM = "vanilla_stream"
"""A length-adaptive run that is told L0 all the way; a plain run reads the same in both modes."""
AT_L0 = "itself at L0"
EQUAL_DB = 0.01
"""A change at T <= L0 that lies within +- this is none."""
