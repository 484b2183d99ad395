"""Tests of the program that is typed."""
