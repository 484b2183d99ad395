"""Stochastic Image-to-Video Synthesis using cINNs (Dorkenwald et al., CVPR 2021)."""
