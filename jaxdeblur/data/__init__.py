"""Where pairs of images come from and how they become batches: uint8 RGB, NHWC, `blur` and `sharp`."""
