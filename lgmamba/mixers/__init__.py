"""Sequence mixers: what a block does along the sequence, and the verbs in which remedies and probes act on any of them.

    base.py         the verbs; what a mixer's configuration says of itself (imports no torch)
    configs.py      `model.mixer` of params.yaml, by kind (imports no torch)
    contract.py     State, Call and Mixer: how a mixer is run, and where a hook acts
    registry.py     `model.mixer.kind` -> class
    paced.py        calls whose verbs are gains, read one step after the other
    growing.py      calls of mixers that keep every step
    keeping.py      mixers that only keep steps, and make something of them when they are asked
    segments.py     a sliding window for any mixer
    scans.py        recurrences in parallel, in plain torch
    kernels.py      some of them by the kernels of flash-linear-attention, on a GPU
    sizes.py        mixers of equal size (imports no torch)
    memory.py       how long a mixer remembers as it is initialised
    <kind>/         one folder for each mixer: config.py and mixer.py

Glossary, besides that of `lgmamba.model`

    call         what one layer is about to do with one piece of a sequence; a hook takes one and returns another
    memory       what a mixer has of the past and a remedy may scale, clip or measure: (B, channels, modes)
    carry        inputs that it needs again, such as those of a short convolution: touched by nothing but a reset
    held         what a recurrence goes on with besides the memory, such as an LSTM's output: part of the carry
    E_t, f_t     a step maps memory to E_t memory + f_t: what it retains, and what it writes
"""
