"""The time mixing of RWKV-7: a delta rule with a decay and an erasure for each key channel."""
