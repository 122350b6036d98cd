"""Reads video files: frames as upright, progressive RGB. Needs PyAV."""
