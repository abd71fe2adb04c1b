"""What a person at a terminal sees, and says by signals."""
