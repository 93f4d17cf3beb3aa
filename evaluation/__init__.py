"""Sequences and bags, the online clock, metrics and reports."""
