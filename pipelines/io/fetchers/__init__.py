"""One module per kind of server that data comes from."""
