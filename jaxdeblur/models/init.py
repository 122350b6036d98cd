"""Initialisers of convolution kernels. Kernels are (h, w, in, out).

Without BatchNorm nothing rescales activations, so the initialisation must preserve their variance: He et al. (2015,
arXiv 1502.01852) before a ReLU, LeCun without one. The last convolution of each residual branch starts at zero, so that
every block starts as the identity (Fixup, Zhang et al. 2019, arXiv 1901.09321).
"""

import flax.linen as nn

zeros = nn.initializers.zeros
he_normal = nn.initializers.he_normal()
# At each output, a transposed convolution of stride 2 uses a quarter of its kernel's taps: four times the variance.
he_normal_transposed = nn.initializers.variance_scaling(8, "fan_in", "normal")
lecun_normal_transposed = nn.initializers.variance_scaling(4, "fan_in", "normal")
# torchvision's ResNet counts the fan-out.
he_normal_fan_out = nn.initializers.variance_scaling(2, "fan_out", "normal")
# PyTorch's default for kernels, uniform within 1 / sqrt(fan_in). Biases start at zero here, unlike PyTorch's.
pytorch_default = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# PyTorch takes the fan-in of a transposed convolution from its output channels.
pytorch_default_transposed = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-1, out_axis=-2)
