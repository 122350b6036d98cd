"""Image files and pixels: decoding, photographs with their metadata, and saving."""
