"""GOPRO_Large as a TFDS data set: `gopro_large/<config>`, stored as raw uint8 RGB in array_record files.

Nah, Kim, Lee, "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring", CVPR 2017
(arXiv 1612.02177); released under CC BY 4.0. Importing `jaxdeblur.data.gopro.builder` registers
`tfds.builder("gopro_large/blur_256")`; the other modules do not import TFDS, which is slow to import.
"""
