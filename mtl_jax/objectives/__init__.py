"""Losses and scores of a task, and tasks of several kinds."""
