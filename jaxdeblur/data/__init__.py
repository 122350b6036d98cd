"""Sources of image pairs (`blur` and `sharp`, uint8 RGB, NHWC) and how they become batches."""
