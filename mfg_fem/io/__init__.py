"""Files: arrays and nodal values, whole or not at all, on any number of ranks."""
