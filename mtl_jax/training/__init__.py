"""Training of one experiment: from a configuration to records, in one loop."""
