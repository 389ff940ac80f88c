"""The sequence model: tokens -> pre-norm residual blocks around a sequence mixer -> a prediction at any step. It knows no task.

Glossary, for every file of this package

    B, L, d, D, N, W   batch, steps, model width, inner width, state size, width of the short convolution
    C, H, W_img, P, K  image channels, height and width (pixels), patch side (pixels), values of a patch (C * P * P)
    G                  cells of the patch grid
    u                  mixer input (B, L, d)
    x, z               the two halves of the in-projection: scan input and gate (B, L, D)
    dt                 step size (B, L, D); with suffix _raw before bias and softplus
    A, Bmat, Cmat, Dskip, h   see `lgmamba.scan`
    T, told            length at which the output will be read, as told to a length-adaptive model (B,)
    t                  steps read so far, counted from 1 at the first patch
    L0                 longest training length
"""

from lgmamba.model.sequences import SequenceModel, Sequences
from lgmamba.model.stack import Stack, StackState

__all__ = ["SequenceModel", "Sequences", "Stack", "StackState"]
