"""Trained networks as files that run without this package: StableHLO for JAX, ONNX for ONNX Runtime and others.

Both contain the weights and map (B, H, W, 3) float32 RGB in [0, 1] to the same shape, for any batch size and any height
and width from the network's multiple up; other sizes are padded and cropped inside, as by the module. They compute in
float32 and clip the output to [0, 1], which networks without a sigmoid may exceed.
"""
