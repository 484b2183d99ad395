"""Tests of isolated environments, made from tiny wheels with no network."""
