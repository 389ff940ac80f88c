"""Training of one run with one seed. `loop.train` reads top to bottom; the rest of the package is what it calls.

Glossary: step = one optimiser step, counted from 0; B, L, K, G as in `lgmamba.model`; progress = step / steps.
"""
