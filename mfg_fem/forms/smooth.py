"""Smooth functions in the place of those with a kink, so that Newton converges."""

import ufl


def smooth_max(a, b, width):
    """A smooth maximum from above: within width/2 of max(a, b)."""
    return (a + b + ufl.sqrt((a - b) ** 2 + width**2)) / 2
