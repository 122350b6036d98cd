"""Synthetic blur: averaging of sharp frames, and simulation of camera shake and moving objects on sharp photos."""
