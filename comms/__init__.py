"""V2X: what to send, to whom, in how many bytes."""
