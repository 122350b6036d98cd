"""Evaluation: metrics, confidence intervals, and the scoring of a network on every split and protocol."""
