"""One file per metric: features to statistics, statistics to a number, inputs to a number."""
