"""The terminal: progress, time left, and signals to stop."""
