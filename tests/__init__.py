"""Tests: the tree of the package, with what they share at its top."""
