"""Restores videos frame by frame."""
