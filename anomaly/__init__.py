"""Learns what is normal for each user, scores what happened, and says which of it does not belong."""

__version__ = "0.1.0"
