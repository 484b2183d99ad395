"""First order motion model: keypoints that nobody labelled carry a motion onto an image."""
