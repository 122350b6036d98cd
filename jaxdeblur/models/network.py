"""What every network states about itself, so that no other module needs to know it by name."""

from typing import Any, ClassVar

import flax.linen as nn

# The collection in which a network that restores coarse to fine stores, as `images`, the outputs of its coarser scales
# in training: the coarsest first, each of twice the size of the previous one; the network's output continues them.
COARSE_OUTPUTS = "coarse_outputs"


class Network(nn.Module):
    """Base class: maps (B, H, W, 3) float32 in [0, 1] to the same shape when called as `model(x, train)`.

    Subclasses have the fields `dtype`, `remat` and `cpu_fast_conv`, which change how a network computes but not its
    parameters, and override whichever facts below differ from the defaults.

    Attributes:
        encoder: name of the submodule that can be initialised from pretrained weights, frozen and given a
            learning-rate multiplier, as in `params/backbone/conv1/kernel`; "" for networks without one.
        needs_position: the output depends on where a tile lies in the image, so the network takes a `position`.
        prefers_ynnpack_matmul: matrix products dominate training, so that XLA's YNNPACK kernels pay off on CPUs
            (docs/performance.md).
    """

    encoder: ClassVar[str] = ""
    needs_position: ClassVar[bool] = False
    prefers_ynnpack_matmul: ClassVar[bool] = False

    @property
    def multiple(self) -> int:
        """Height and width are padded internally to a multiple of this."""
        raise NotImplementedError

    @property
    def sees_whole_image(self) -> bool:
        """Whether the receptive field is the whole image, which rules out restoring it in tiles."""
        return False

    @property
    def pads_with_zeros(self) -> bool:
        """Whether images are padded to a multiple of `multiple` with zeros instead of by reflection."""
        return False

    @property
    def min_tile_overlap(self) -> int:
        """Smallest overlap of tiles, in pixels, for networks whose tiles only approximate the whole image."""
        return 0

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return options for the smallest network that still has every kind of layer, for tests."""
        raise NotImplementedError
