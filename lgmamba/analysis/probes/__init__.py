"""What the probes found inside trained runs: their files checked and put together, and the frames that figures draw.

collect      the files of the stage `probes`, of every run and seed; of a study, probes_<name> has the rows of all of them
figure_data  the frames of the figures read_outs, receptive_field, states and modes, row for row
"""
