"""Tests of FlowNet2."""
