"""Optical flow between the frames of prepared videos: estimators, and the stage that packs it."""
