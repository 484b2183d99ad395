"""Blocks used by at least two families and equal in them to the last bit."""
