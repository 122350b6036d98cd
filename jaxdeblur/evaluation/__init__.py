"""Scores: protocols, metrics and how certain they are."""
