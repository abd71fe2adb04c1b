"""One experiment: from a configuration to records, in one loop."""
