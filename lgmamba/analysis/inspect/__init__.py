"""What the probes found inside trained runs: their files checked and put together, and the frames that figures draw.

collect      the files of the stage `inspect`, of every run and seed
figure_data  the frames of the figures receptive_field, states and modes, row for row
"""

NAMES = (
    "attention",
    "distance",
    "receptive_field",
    "memory",
    "states",
    "cycles",
    "content",
    "modes",
    "explained",
    "groups",
    "touched",
)
"""Frames of the stage `inspect`; of a study, inspect_<name> has the rows of all runs and seeds."""
