"""Waves: the Schroedinger equation in real time, and its ground states."""
