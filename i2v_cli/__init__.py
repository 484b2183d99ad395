"""The program the user types: light, checks the request, starts workers, shows what they say."""

__version__ = "0.1.0"
