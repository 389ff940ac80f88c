"""How far a language model can read, what breaks, and what repairs it: `lgmamba.audit` and `lgmamba audit` (docs/hosts.md)."""
