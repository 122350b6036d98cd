"""Weights of networks: files, PyTorch checkpoints, initial weights and the networks that ship with the package."""
