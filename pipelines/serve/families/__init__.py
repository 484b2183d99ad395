"""How the page asks each model family: one file per family, all with the same few functions."""
