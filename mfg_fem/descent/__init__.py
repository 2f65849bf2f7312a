"""Descent on the reduced problem of a shared control."""
