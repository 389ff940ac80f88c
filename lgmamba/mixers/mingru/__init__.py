"""The minimal GRU: gates that do not depend on the state."""
