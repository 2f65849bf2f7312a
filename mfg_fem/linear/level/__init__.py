"""The linear systems of one time level, and sweeps through them."""
