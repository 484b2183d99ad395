"""Feature networks that metrics and losses look at videos with."""
