"""The networks in PyTorch, with the tensor names of the originals' checkpoints: the reference for ours.

NCHW float32. Written from the description of the networks, for `make_goldens.py` and the parity tests.
"""

import torch
from torch import nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))


class TransformNet(nn.Module):
    """Johnson et al. 2016 with a sigmoid."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 9, padding=4), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.BatchNorm2d(128)
        self.res_blocks = nn.Sequential(*(ResidualBlock(128) for _ in range(5)))
        double = {"stride": 2, "padding": 1, "output_padding": 1, "bias": False}
        self.conv4, self.bn4 = nn.ConvTranspose2d(128, 64, 3, **double), nn.BatchNorm2d(64)
        self.conv5, self.bn5 = nn.ConvTranspose2d(64, 32, 3, **double), nn.BatchNorm2d(32)
        self.conv6 = nn.Conv2d(32, 3, 9, padding=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the restored image."""
        for i in (1, 2, 3):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = self.res_blocks(x)
        for i in (4, 5):
            x = torch.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        return torch.sigmoid(self.conv6(x))


class Bottleneck(nn.Module):
    """torchvision's bottleneck: the 3x3 convolution has the stride."""

    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if stride != 1 or inputs != 4 * planes:
            shortcut = nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """torchvision's ResNet-50 without the classifier; returns the four stages' outputs."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for stage, blocks in enumerate((3, 4, 6, 3)):
            planes, layers = 64 * 2**stage, []
            for block in range(blocks):
                layers.append(Bottleneck(inputs, planes, 2 if stage > 0 and block == 0 else 1))
                inputs = 4 * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return c2 to c5."""
        x = functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        features = []
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
            features.append(x)
        return features


class DoubleConv(nn.Module):
    """Twice: convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features."""
        return self.double_conv(x)


class Up(nn.Module):
    """Transposed convolution, padded or cropped to the skip's size, concatenated with it."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return the features at the skip's size."""
        x = self.up(x)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        x = functional.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class UpBilinear(nn.Module):
    """Bilinear upsampling by 2 with aligned corners."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features at twice the size."""
        return self.conv(self.up(x))


class OutConv(nn.Module):
    """1x1 convolution to an image."""

    def __init__(self, inputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image before the sigmoid."""
        return self.conv(x)


class ResnetEncDec(nn.Module):
    """ResNet-50 encoder and decoder with skips."""

    def __init__(self):
        super().__init__()
        self.bkbone = ResNet50()
        self.up1, self.up2, self.up3 = Up(2048, 1024), Up(1024, 512), Up(512, 256)
        self.up4, self.up5 = UpBilinear(256, 128), UpBilinear(128, 64)
        self.outc = OutConv(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the restored image."""
        c2, c3, c4, c5 = self.bkbone(x)
        x = self.up3(self.up2(self.up1(c5, c4), c3), c2)
        return torch.sigmoid(self.outc(self.up5(self.up4(x))))


class WideResidualBlock(nn.Module):
    """Two 5x5 convolutions added to the input."""

    def __init__(self, channels: int):
        super().__init__()
        layers = (nn.Conv2d(channels, channels, 5, padding=2), nn.ReLU(), nn.Conv2d(channels, channels, 5, padding=2))
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        return x + self.body(x)


class ScaleNet(nn.Module):
    """The residual network of one scale."""

    def __init__(self, inputs: int, width: int, num_blocks: int):
        super().__init__()
        blocks = [WideResidualBlock(width) for _ in range(num_blocks)]
        ends = nn.Conv2d(inputs, width, 5, padding=2), nn.Conv2d(width, 3, 5, padding=2)
        self.body = nn.Sequential(ends[0], *blocks, ends[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the image of this scale."""
        return self.body(x)


class UpConv(nn.Module):
    """A 5x5 convolution and a pixel shuffle to twice the size."""

    def __init__(self):
        super().__init__()
        self.uppath = nn.Sequential(nn.Conv2d(3, 12, 5, padding=2), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the upsampled image."""
        return self.uppath(x)


class MSResNet(nn.Module):
    """DeepDeblur's network for images in [0, 1] with sides that are multiples of 4."""

    def __init__(self, width: int = 64, num_blocks: int = 19):
        super().__init__()
        self.body_models = nn.ModuleList(ScaleNet(inputs, width, num_blocks) for inputs in (6, 6, 3))
        self.conv_end_models = nn.ModuleList([nn.Module(), UpConv(), UpConv()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the restored image."""
        return self.all_scales(x)[0]

    def all_scales(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the restored images of all scales, the finest first."""
        inputs = [255 * image - 127.5 for image in gaussian_pyramid(x)]
        outputs = [self.body_models[2](inputs[2])]
        for scale in (1, 0):
            upsampled = self.conv_end_models[scale + 1](outputs[0])
            outputs.insert(0, self.body_models[scale](torch.cat([inputs[scale], upsampled], dim=1)))
        return [(output + 127.5) / 255 for output in outputs]


def gaussian_pyramid(x: torch.Tensor) -> list[torch.Tensor]:
    """Return an image, NCHW, and two smaller ones: blurred with sigma 2/3, then averages of 2x2 pixels."""
    taps = torch.exp(-0.5 * (torch.arange(-3, 4, dtype=torch.float64) / (2 / 3)) ** 2)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    kernel = kernel.to(x).expand(x.shape[1], 1, 7, 7)
    pyramid = [x]
    for _ in range(2):
        x = torch.cat([x[:, :, :3].flip(2), x, x[:, :, -3:].flip(2)], dim=2)
        x = torch.cat([x[..., :3].flip(3), x, x[..., -3:].flip(3)], dim=3)
        x = functional.avg_pool2d(functional.conv2d(x, kernel, groups=x.shape[1]), 2)
        pyramid.append(x)
    return pyramid


class ChannelLayerNorm(nn.Module):
    """LayerNorm over the channels of each pixel, with scale and shift."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized map; in channels-last memory both permutations are free."""
        y = functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return y.permute(0, 3, 1, 2)


def simple_gate(x: torch.Tensor) -> torch.Tensor:
    """Multiply the first half of the channels by the second."""
    first, second = x.chunk(2, dim=1)
    return first * second


def local_mean(x: torch.Tensor, box: int) -> torch.Tensor:
    """Return means over boxes, the outermost ones repeated at the borders."""
    height, width = x.shape[2:]
    means = functional.avg_pool2d(x, (min(box, height), min(box, width)), stride=1)
    rows, columns = height - means.shape[2], width - means.shape[3]
    return functional.pad(means, (columns // 2, (columns + 1) // 2, rows // 2, (rows + 1) // 2), mode="replicate")


class NAFBlock(nn.Module):
    """NAFNet's block (Chen et al. 2022, arXiv 2204.04676); `attention` adds its simplified channel attention.

    `box` is the side of the boxes that it averages over (TLC, arXiv 2112.04491), in pixels of its input; 0: all.
    """

    def __init__(self, channels: int, *, attention: bool, box: int = 0):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.norm1, self.norm2 = ChannelLayerNorm(channels), ChannelLayerNorm(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1)) if attention else None
        self.box = box

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output."""
        y = simple_gate(self.conv2(self.conv1(self.norm1(x))))
        if self.sca is not None:
            y = y * (self.sca[1](local_mean(y, self.box)) if self.box else self.sca(y))
        x = x + self.beta * self.conv3(y)
        return x + self.gamma * self.conv5(simple_gate(self.conv4(self.norm2(x))))


class NAFNet(nn.Module):
    """NAFNet with the published tensor names; the options are those of `jaxdeblur.models.nafnet.NAFNet`.

    Sides are padded at the bottom and right, with zeros, to multiples of what the network reduces them by. Without
    attention there are no `sca` tensors, and with `half_resolution` the first and last convolution work on 2x2 pixels
    as 12 channels: neither is published.
    """

    def __init__(
        self,
        width: int = 32,
        encoder_blocks: tuple[int, ...] = (1, 1, 1, 28),
        middle_blocks: int = 1,
        decoder_blocks: tuple[int, ...] = (1, 1, 1, 1),
        *,
        half_resolution: bool = False,
        attention: str = "global",
        attention_box: int = 384,
    ):
        super().__init__()

        def blocks(count: int, channels: int) -> nn.Sequential:
            box = attention_box * width // channels >> half_resolution if attention == "local" else 0
            return nn.Sequential(*(NAFBlock(channels, attention=attention != "none", box=box) for _ in range(count)))

        self.half_resolution = half_resolution
        self.multiple = 2 ** (len(encoder_blocks) + half_resolution)
        image_channels = 12 if half_resolution else 3
        levels = range(len(encoder_blocks))
        self.intro = nn.Conv2d(image_channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(blocks(encoder_blocks[level], width << level) for level in levels)
        self.downs = nn.ModuleList(nn.Conv2d(width << level, width << level + 1, 2, stride=2) for level in levels)
        self.middle_blks = blocks(middle_blocks, width << len(levels))
        # Decoder levels are numbered from the deepest one.
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width << level + 1, width << level + 2, 1, bias=False), nn.PixelShuffle(2))
            for level in reversed(levels)
        )
        self.decoders = nn.ModuleList(blocks(decoder_blocks[level], width << level) for level in reversed(levels))
        self.ending = nn.Conv2d(width, image_channels, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the restored image, unclipped."""
        height, width = image.shape[2:]
        image = functional.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))
        x = self.intro(functional.pixel_unshuffle(image, 2) if self.half_resolution else image)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + skips.pop())
        x = self.ending(x)
        restored = image + (functional.pixel_shuffle(x, 2) if self.half_resolution else x)
        return restored[:, :, :height, :width]


# The networks with one architecture.
NETWORKS = {"resnetencdec": ResnetEncDec, "transformnet": TransformNet}
