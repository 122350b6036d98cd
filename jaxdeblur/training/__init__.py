"""Training: stages, optimizer, the compiled step and the loop."""
