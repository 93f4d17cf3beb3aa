"""Scene to decision within a deadline."""
