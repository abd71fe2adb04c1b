"""The experiments of the paper, one a file; see `protocol`."""
