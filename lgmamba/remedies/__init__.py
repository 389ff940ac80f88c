"""What is done to a trained model, or to its input, so that it reads sequences longer than those of its training.

Remedies act through hooks (`lgmamba.mixers.contract`), in one of two modes: prefix, where the length T at which the output will be
read is known, and stream, where only the step t is. Controls select which steps are read at all. Up to the training length
every one of them is the identity.

Glossary: L0 longest training length; T length of the sequence, t step, both in patches, from 1; kappa = T / L0; s factor.
"""
