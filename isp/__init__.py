"""Bayer RAW to RGB."""
