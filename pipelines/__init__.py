"""The work itself: runs inside the isolated environments, never imports the command line."""
