"""Synthetic blur from sharp photographs, videos and frame sequences."""
