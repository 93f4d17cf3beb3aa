"""``python -m leadsight``."""

from leadsight.cli import main

main()
