"""Clips of prepared videos: which is next, what it holds, and how a batch of them is augmented."""
