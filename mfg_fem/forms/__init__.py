"""The functional of a step and its derivatives, as UFL forms."""
