"""Frames between a start and an end image, made directly by 3D convolutions."""
