"""Schemes, and the space-time system that they make of a problem."""
