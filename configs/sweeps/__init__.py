"""Configurations of studies, one file a setting: each has a `get_config`."""
