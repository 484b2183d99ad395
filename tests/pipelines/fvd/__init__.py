"""Tests of the environment `fvd`."""
