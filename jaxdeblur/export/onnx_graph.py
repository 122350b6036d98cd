"""An ONNX graph under construction, with the layers that the networks are made of. NCHW, as ONNX has it.

Needs `onnx` (pip install '.[export]'). BatchNorm's running statistics, and scales of what a layer puts out, are folded
into the layer's weights.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from flax import traverse_util
from onnx import helper, numpy_helper

BATCH_NORM_EPSILON, CHANNEL_NORM_EPSILON = 1e-5, 1e-6


class Graph:
    """Nodes and weights under construction. Its methods append nodes and return the name of what they put out."""

    def __init__(self, variables: Mapping[str, Any]):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights = dict(traverse_util.flatten_dict(variables, sep="/"))  # those that no layer has taken yet

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Append a node; arrays among its inputs become constants of the graph."""
        return self.add_several(operator, 1, *inputs, **attributes)[0]

    def add_several(self, operator: str, count: int, *inputs: str | np.ndarray, **attributes: Any) -> list[str]:
        """Append a node that puts out `count` tensors, as `add` does, and return their names."""
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        name = f"{operator.lower()}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{i}" for i in range(1, count))]
        self.nodes.append(helper.make_node(operator, names, outputs, name=name, **attributes))
        return outputs

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def _take(self, name: str) -> np.ndarray:
        return np.asarray(self.weights.pop(name), np.float64)

    def _take_layer(self, name: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Return kernel (h, w, in, out) and bias of a layer and what scales it, a BatchNorm or `scale`, as one."""
        kernel = self._take(f"params/{name}/kernel")
        bias = self._take(f"params/{name}/bias") if f"params/{name}/bias" in self.weights else np.zeros(kernel.shape[3])
        if f"params/{name}/scale" in self.weights:
            scale = self._take(f"params/{name}/scale")
            kernel, bias = kernel * scale, bias * scale
        if f"params/{norm}/scale" in self.weights:  # not in a network without BatchNorm
            mean, variance = (self._take(f"batch_stats/{norm}/{statistic}") for statistic in ("mean", "var"))
            scale = self._take(f"params/{norm}/scale") / np.sqrt(variance + BATCH_NORM_EPSILON)
            kernel, bias = kernel * scale, (bias - mean) * scale + self._take(f"params/{norm}/bias")
        return kernel, bias.astype(np.float32)

    def conv(self, x: str, name: str, *, norm: str = "", stride: int = 1, depthwise: bool = False) -> str:
        """`layers.conv` and BatchNorm, or `light_layers`' convolutions."""
        kernel, bias = self._take_layer(name, norm)
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)  # (out, in, h, w)
        group = kernel.shape[0] if depthwise else 1
        placed = {"pads": [kernel.shape[2] // 2] * 4, "strides": [stride, stride], "group": group}
        return self.add("Conv", x, kernel, bias, kernel_shape=kernel.shape[2:], **placed)

    def conv_transpose_2x(self, x: str, name: str, *, norm: str = "") -> str:
        """`layers.ConvTranspose2x` as the transposed convolution that it equals, and BatchNorm."""
        kernel, bias = self._take_layer(name, norm)
        kernel = np.ascontiguousarray(kernel.transpose(2, 3, 0, 1), np.float32)  # (in, out, h, w)
        border = 1 if kernel.shape[2] == 3 else 0
        placed = {"pads": [border] * 4, "output_padding": [border] * 2, "strides": [2, 2]}
        return self.add("ConvTranspose", x, kernel, bias, kernel_shape=kernel.shape[2:], **placed)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.add("Relu", x)

    def normalise_channels(self, x: str) -> str:
        """`light_layers.normalise_channels`."""
        channels = np.array([1])
        centred = self.add("Sub", x, self.add("ReduceMean", x, channels))
        variance = self.add("ReduceMean", self.add("Mul", centred, centred), channels)
        return self.add("Div", centred, self.add("Sqrt", self.add("Add", variance, np.float32(CHANNEL_NORM_EPSILON))))

    def gate(self, x: str) -> str:
        """`light_layers.gate`."""
        first, second = self.add_several("Split", 2, x, axis=1, num_outputs=2)
        return self.add("Mul", first, second)

    def sides(self, x: str) -> str:
        """Height and width, as two int64."""
        return self.add("Shape", x, start=2, end=4)
