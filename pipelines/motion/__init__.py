"""Generative models of how keypoints move between a first and a last frame; fomm renders them."""
