"""Generated clips with ground truth: one module per kind, the drawing they share, other formats."""
