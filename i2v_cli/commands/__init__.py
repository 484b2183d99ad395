"""One file per verb; each only parses, resolves the config, runs the job and prints the result."""
