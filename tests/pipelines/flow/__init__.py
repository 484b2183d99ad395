"""Tests of the environment `flow`."""
