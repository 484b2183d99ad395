"""The page of `i2v serve`: a server on this machine, a warm model process, and plain HTML."""
