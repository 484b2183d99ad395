"""Published networks and losses against this project's: same weights, same inputs, same numbers."""
