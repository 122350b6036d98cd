"""Restores photos and videos of any size, in bounded memory."""
