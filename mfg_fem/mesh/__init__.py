"""Domains: meshes with named boundaries, periodic ones, points and nodes in them."""
