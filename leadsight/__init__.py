"""The application: command line, demo, doctor and the assembled in-process stack."""

__version__ = "0.1.0"
