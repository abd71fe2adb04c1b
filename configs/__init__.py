"""Configurations, one file a setting or experiment: each has a `get_config`."""
