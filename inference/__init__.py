"""The paid inference node."""
