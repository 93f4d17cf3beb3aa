"""Trackers: where a target is in a frame."""
