"""FlowNet 2.0 (Ilg et al., CVPR 2017): optical flow with published weights, in plain PyTorch."""
