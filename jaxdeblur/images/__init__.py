"""Image files and arrays: decoding training images, reading and writing photos with their metadata."""
