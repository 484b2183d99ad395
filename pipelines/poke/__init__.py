"""Poking: a still image and the wish where one of its pixels should go, answered with a video."""
