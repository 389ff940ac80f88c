"""LrcSSM: liquid resistance and capacitance, a bounded nonlinear recurrence with a diagonal Jacobian."""
