"""A gated recurrent unit, the classic that a state space model is compared with."""
