"""Human behaviour apart from posture: a code for how one moves, transferred and sampled."""
