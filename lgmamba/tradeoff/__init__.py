"""Classification against reconstruction on one shared latent: a study of its own, after Rathjens and Wiskott (arXiv:2401.09237).

An encoder makes a latent z of m numbers from an image; a decoder draws the image from z, a classifier names its class. The
encoder is trained on (1 - w) of the one loss and w of the other, each head on its own loss alone. So at w = 0 the classifier is
a probe of a latent that knows no classes, and at w = 1 the decoder is a probe of one that knows no pictures.

    config      params of such a study; imports no torch
    claims      its primary contrasts
    stack_file  what one stack is trained with
    check       a look at the classes before any job
    labels      what is wrong with classes
    encoders    mlp, cnn, vit: one module each
    networks    the parts that encoders and heads are made of
    stacked     R networks of one shape as one with a leading axis of runs
    training    one stack: seeds x weights side by side
    heads       heads trained on frozen latents until they have converged
    linear      what needs no encoder: principal components, pixels
    measures    what a latent uses: dimensions, spread by class, angle of the two gradients
    stage       the stage `tradeoff train`: one stack from images to files
    frontier    conflict gaps, exchange area, synergy
    frames      the study's frames, with intervals over seeds
    figures     its figures
    report      its report
    kept        frames kept in git
    keys        what decides a stage's result
    jobs        its stages, for Snakemake and for the command line

Glossary: R runs of a stack = S seeds x W weights (seed by seed), w weight of classification, m latent size, B batch, N images,
K classes, C H W_img an image. `mse` is on pixels in [0, 1].
"""
