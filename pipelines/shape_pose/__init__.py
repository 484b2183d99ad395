"""Renders a person of a given appearance in a given posture."""
