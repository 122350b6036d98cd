"""Restoring photographs and videos of any size, in bounded memory."""
