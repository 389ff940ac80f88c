"""Training of one run with one seed, or of several side by side. `loop` reads top to bottom; the rest is what it calls.

Glossary: step = one optimiser step, counted from 0; B, L, K, G as in `lgmamba.model`; progress = step / steps;
a stack of trainings = R runs of one shape that are trained as one model.
"""
