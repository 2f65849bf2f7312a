"""Velocity fields and the flows of points that follow them."""
