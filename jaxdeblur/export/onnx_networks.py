"""The networks as ONNX graphs, for any batch, height and width. Needs `onnx` (pip install '.[export]').

Written by hand, one function per network, and tested against the module: the converter jax2onnx 0.17.1 cannot convert
most of the networks with dynamic height and width, nor be installed next to the orbax used here. Input and output are
the module's, (B, H, W, 3) float32 RGB in [0, 1], the output clipped to that range; inside, the layout is ONNX's NCHW.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from jaxdeblur import __version__
from jaxdeblur.export.onnx_graph import Graph
from jaxdeblur.models.heads import CORRECTION
from jaxdeblur.models.msresnet import MSResNet
from jaxdeblur.models.nafnet import NAFNet
from jaxdeblur.models.network import Network
from jaxdeblur.models.pyramid import RADIUS, TAPS
from jaxdeblur.models.resnetencdec import ResnetEncDec
from jaxdeblur.models.transformnet import TransformNet
from jaxdeblur.models.unet import UNet

OPSET = 20  # the first with Gelu
ROWS_AND_COLUMNS = np.array([2, 3])  # of NCHW


def make_model(model: Network, variables: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file's content, checked.

    Args:
        model: the network.
        variables: its parameters and running statistics.
        metadata: the file's `metadata_props`.

    Raises:
        ValueError: the graph does not use all weights.
        onnx.checker.ValidationError: the graph is invalid.
    """
    graph = Graph(variables)
    x = graph.add("Transpose", "image", perm=[0, 3, 1, 2])
    sides = graph.height_and_width(x)
    missing = graph.add("Mod", graph.add("Neg", sides), np.array([model.multiple]))  # as Python's -side % multiple
    # Pads for all axes (none before NCHW, none after NC): ONNX Runtime 1.32 cannot optimise a Pad with an axes input.
    mode = "constant" if model.pads_with_zeros else "reflect"
    x = graph.add("Pad", x, graph.add("Concat", np.zeros(6, np.int64), missing, axis=0), mode=mode)
    x = NETWORKS[type(model)](graph, model, x)
    x = graph.add("Slice", x, np.zeros(2, np.int64), sides, ROWS_AND_COLUMNS)
    x = graph.add("Clip", x, np.float32(0), np.float32(1))
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    if graph.weights:
        raise ValueError(f"the graph of {type(model).__name__} does not use {', '.join(sorted(graph.weights))}")
    graph.nodes[-1].output[0] = "restored"
    input_info, output_info = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "height", "width", 3])
        for name in ("image", "restored")
    )
    onnx_graph = helper.make_graph(graph.nodes, type(model).__name__, [input_info], [output_info], graph.constants)
    opsets = [helper.make_opsetid("", OPSET)]
    onnx_model = helper.make_model(
        onnx_graph,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),  # not every runtime knows the newest
        producer_name="jaxdeblur",
        producer_version=__version__,
    )
    helper.set_model_props(onnx_model, dict(metadata))
    onnx.checker.check_model(onnx_model, full_check=True)
    return onnx_model.SerializeToString()


def _transformnet(graph: Graph, model: TransformNet, image: str) -> str:
    x = graph.relu(graph.conv(image, "conv1", norm="bn1"))
    x = graph.relu(graph.conv(x, "conv2", norm="bn2", stride=2))  # (B, 64, H/2, W/2)
    x = graph.relu(graph.conv(x, "conv3", norm="bn3", stride=2))  # (B, 128, H/4, W/4)
    for i in range(model.num_blocks):
        block = f"res_block{i}"
        y = graph.relu(graph.conv(x, f"{block}/conv1", norm=f"{block}/bn1"))
        x = graph.add("Add", x, graph.conv(y, f"{block}/conv2", norm=f"{block}/bn2"))
    x = graph.relu(graph.conv_transpose_2x(x, "conv4", norm="bn4"))  # (B, 64, H/2, W/2)
    x = graph.relu(graph.conv_transpose_2x(x, "conv5", norm="bn5"))  # (B, 32, H, W)
    return _restored_image(graph, model, image, x, "conv6")


def _restored_image(graph: Graph, model: TransformNet | ResnetEncDec, image: str, x: str, name: str) -> str:
    """The last layer, `name` in networks that are not residual, and `heads.restored_image`."""
    if model.residual:
        return graph.add("Add", image, graph.conv(x, CORRECTION))
    return graph.add("Sigmoid", graph.conv(x, name))


def _resnetencdec(graph: Graph, model: ResnetEncDec, image: str) -> str:
    *skips, x = _resnet(graph, model, image)
    for i, skip in enumerate(reversed(skips[:3]), start=1):
        x = graph.conv_transpose_2x(x, f"up{i}/up")
        # `pixels.fit_to`: if the skip's height is odd, the doubled one exceeds it by one, and the first row is cropped.
        excess = graph.add("Sub", graph.height_and_width(x), graph.height_and_width(skip))
        x = graph.add("Slice", x, excess, np.full(2, np.iinfo(np.int64).max), ROWS_AND_COLUMNS)
        x = _double_conv(graph, graph.add("Concat", skip, x, axis=1), f"up{i}/conv")
    for i in (4, 5):
        scales = np.array([1, 1, 2, 2], np.float32)
        x = graph.add("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="align_corners")
        x = _double_conv(graph, x, f"up{i}/conv")
    return _restored_image(graph, model, image, x, "outc")


def _resnet(graph: Graph, model: ResnetEncDec, x: str) -> list[str]:
    """Return the stages' outputs c2 to c5."""
    encoder = model.encoder
    x = graph.relu(graph.conv(x, f"{encoder}/conv1", norm=f"{encoder}/bn1", stride=2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])  # (B, 64, H/4, W/4)
    features = []
    for stage, blocks in enumerate(model.stage_sizes):
        for block in range(blocks):
            name, stride = f"{encoder}/layer{stage + 1}_{block}", 2 if stage > 0 and block == 0 else 1
            y = graph.relu(graph.conv(x, f"{name}/conv1", norm=f"{name}/bn1"))
            y = graph.relu(graph.conv(y, f"{name}/conv2", norm=f"{name}/bn2", stride=stride))
            y = graph.conv(y, f"{name}/conv3", norm=f"{name}/bn3")
            if block == 0:
                x = graph.conv(x, f"{name}/downsample_conv", norm=f"{name}/downsample_bn", stride=stride)
            x = graph.relu(graph.add("Add", x, y))
        features.append(x)  # (B, 256 2^stage, H/(4 2^stage), W/(4 2^stage)), rounded up
    return features


def _double_conv(graph: Graph, x: str, name: str) -> str:
    for i in (1, 2):
        x = graph.relu(graph.conv(x, f"{name}/conv{i}", norm=f"{name}/bn{i}"))
    return x


def _unet(graph: Graph, model: UNet, x: str) -> str:
    def blocks(x: str, name: str) -> str:
        for i in range(model.num_blocks):
            y = graph.add("Gelu", graph.conv(x, f"{name}_{i}/conv1"), approximate="tanh")  # as flax's
            x = graph.add("Add", x, graph.conv(y, f"{name}_{i}/conv2"))
        return x

    # "DCR" orders channels as `pixels.depth_to_space` does: (row phase, column phase, C).
    image, skips = x, []
    for level in range(model.num_levels):
        x = graph.conv(graph.add("SpaceToDepth", x, blocksize=2), f"down{level}")
        x = blocks(x, f"encoder{level}")  # (B, features, H/2^(level+1), W/2^(level+1))
        skips.append(x)
    x = skips.pop()
    for level in reversed(range(model.num_levels - 1)):
        x = graph.add("DepthToSpace", graph.conv(x, f"up{level}"), blocksize=2, mode="DCR")
        x = blocks(graph.add("Add", skips.pop(), x), f"decoder{level}")
    x = graph.add("DepthToSpace", graph.conv(x, "output"), blocksize=2, mode="DCR")
    return graph.add("Add", image, x)


def _nafnet(graph: Graph, model: NAFNet, image: str) -> str:
    def blocks(x: str, count: int, level: int, part: str) -> str:
        for name in (f"{part}_{i}" for i in range(count)):
            y = graph.conv(graph.normalise_channels(x), f"{name}/expand1")
            y = graph.simple_gate(graph.conv(y, f"{name}/depthwise", depthwise=True))
            if model.attention != "none":
                is_local = model.attention == "local"
                mean = graph.local_mean(y, model.box_at(level)) if is_local else graph.add("GlobalAveragePool", y)
                y = graph.add("Mul", y, graph.conv(mean, f"{name}/attention"))
            x = graph.add("Add", x, graph.conv(y, f"{name}/project1"))
            y = graph.simple_gate(graph.conv(graph.normalise_channels(x), f"{name}/expand2"))
            x = graph.add("Add", x, graph.conv(y, f"{name}/project2"))
        return x

    skips, x = [], graph.add("SpaceToDepth", image, blocksize=2) if model.half_resolution else image
    x = graph.conv(x, "input")
    for level, count in enumerate(model.encoder_blocks):
        x = blocks(x, count, level, f"encoder{level}")
        skips.append(x)
        x = graph.conv(graph.add("SpaceToDepth", x, blocksize=2), f"down{level}")
    x = blocks(x, model.middle_blocks, len(model.encoder_blocks), "middle")
    for level, count in reversed(list(enumerate(model.decoder_blocks))):
        x = graph.add("DepthToSpace", graph.conv(x, f"up{level}"), blocksize=2, mode="DCR")
        x = blocks(graph.add("Add", skips.pop(), x), count, level, f"decoder{level}")
    x = graph.conv(x, "output")
    x = graph.add("DepthToSpace", x, blocksize=2, mode="DCR") if model.half_resolution else x
    return graph.add("Add", image, x)


def _msresnet(graph: Graph, model: MSResNet, image: str) -> str:
    def scale_net(x: str, name: str) -> str:
        x = graph.conv(x, f"{name}/conv0")
        for block in (f"{name}/block{i}" for i in range(1, model.num_blocks + 1)):
            y = graph.relu(graph.conv(x, f"{block}/conv1"))
            x = graph.add("Add", x, graph.conv(y, f"{block}/conv2"))
        return graph.conv(x, f"{name}/conv{model.num_blocks + 1}")

    pyramid = [graph.add("Sub", graph.add("Mul", image, np.float32(255)), np.float32(127.5))]
    for _ in range(model.num_scales - 1):
        pyramid.append(_half_size(graph, pyramid[-1]))  # its weights sum to one: the offset may come first
    output = scale_net(pyramid.pop(), f"scale{model.num_scales - 1}")
    for scale in reversed(range(model.num_scales - 1)):
        # "CRD" orders channels as `pixels.pixel_shuffle` does: (C, row phase, column phase).
        upsampled = graph.add("DepthToSpace", graph.conv(output, f"up{scale + 1}"), blocksize=2, mode="CRD")
        output = scale_net(graph.add("Concat", pyramid.pop(), upsampled, axis=1), f"scale{scale}")
    return graph.add("Div", graph.add("Add", output, np.float32(127.5)), np.float32(255))


def _half_size(graph: Graph, x: str) -> str:
    """`pyramid.gaussian_pyramid`'s next level."""
    for axis in (2, 3):
        size = graph.add("Shape", x, start=axis, end=axis + 1)  # (1,)
        period = graph.add("Mul", size, np.array([2]))
        end = graph.add("Squeeze", graph.add("Add", size, np.array([RADIUS])))
        position = graph.add("Mod", graph.add("Range", np.array(-RADIUS), end, np.array(1)), period)
        mirrored = graph.add("Sub", graph.add("Sub", period, np.array([1])), position)
        x = graph.add("Gather", x, graph.add("Min", position, mirrored), axis=axis)
    taps = np.outer(TAPS, TAPS).astype(np.float32)
    kernel = np.broadcast_to(taps, (3, 1, *taps.shape)).copy()
    return graph.add("Conv", x, kernel, kernel_shape=taps.shape, strides=[2, 2], group=3)


NETWORKS: dict[type[Network], Callable[[Graph, Any, str], str]] = {
    MSResNet: _msresnet,
    NAFNet: _nafnet,
    ResnetEncDec: _resnetencdec,
    TransformNet: _transformnet,
    UNet: _unet,
}
