"""Remedies and probes on language models of other packages (docs/hosts.md).

    find        which layers are known
    layers      one Mamba layer, run as a mixer of this package
    rows        batches whose rows stand at different steps: padding, steps that were dropped
    caches      where states lie between two calls
    host        the model as something that remedies act on
    sequences, calibration, extension     text, values found on it, `lgmamba.extend`
    watch       what the layers' recurrences do with a text, `lgmamba.watch`
    audit       how far a model can read and what repairs it, `lgmamba.audit`

Glossary

    L0          training length, tokens
    T, t        tokens of a text; tokens read so far, so that token t is the t-th
    B, L, d     rows of a batch, positions of a piece, width of the model
    D, N        channels and modes of a Mamba layer's memory; of Mamba-2 D is heads times channels of a head
    prefix      the length T at which the output will be read is known; stream: it is not
"""
