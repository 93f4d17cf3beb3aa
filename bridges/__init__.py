"""Worlds that feed the stack: the embedded aerial scene."""
