"""The one training loop, its checkpoints, optimizers and device handling; used by every family."""
