"""Scene to decision within a deadline. Reserved; nothing is built here yet."""
