"""An ONNX graph under construction, with methods for the networks' layers. NCHW, ONNX's layout.

Needs `onnx` (pip install '.[export]'). BatchNorm and output scales are folded into the convolutions' weights.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from flax import traverse_util
from onnx import helper, numpy_helper

from jaxdeblur.models.layers import BATCH_NORM_EPSILON
from jaxdeblur.models.nafnet_layers import LAYER_NORM_EPSILON

Input = str | np.ndarray | np.float32  # another node's output, or a constant


class Graph:
    """Nodes and constants so far. Methods append nodes and return their output's name.

    Attributes:
        nodes: in topological order.
        constants: weights and other arrays.
        weights: those that no layer has used yet, by name.
    """

    def __init__(self, variables: Mapping[str, Any]):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights = dict(traverse_util.flatten_dict(variables, sep="/"))

    def add(self, operator: str, *inputs: Input, **attributes: Any) -> str:
        """Append a node; array inputs become constants."""
        return self.add_multi_output(operator, 1, *inputs, **attributes)[0]

    def add_multi_output(self, operator: str, count: int, *inputs: Input, **attributes: Any) -> list[str]:
        """Append a node with `count` outputs, as `add` does, and return their names."""
        names = [item if isinstance(item, str) else self._constant(item) for item in inputs]
        name = f"{operator.lower()}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{i}" for i in range(1, count))]
        self.nodes.append(helper.make_node(operator, names, outputs, name=name, **attributes))
        return outputs

    def _constant(self, array: np.ndarray | np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _take(self, name: str) -> np.ndarray:
        """Return a weight in float64 and mark it as used."""
        return np.asarray(self.weights.pop(name), np.float64)

    def _take_layer(self, name: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a layer's kernel (h, w, in, out) and bias, with its `scale` and the BatchNorm `norm` folded in."""
        kernel = self._take(f"params/{name}/kernel")
        bias = self._take(f"params/{name}/bias") if f"params/{name}/bias" in self.weights else np.zeros(kernel.shape[3])
        if f"params/{name}/scale" in self.weights:
            scale = self._take(f"params/{name}/scale")
            kernel, bias = kernel * scale, bias * scale
        if f"params/{norm}/scale" in self.weights:  # absent from networks without BatchNorm
            mean, variance = (self._take(f"batch_stats/{norm}/{statistic}") for statistic in ("mean", "var"))
            scale = self._take(f"params/{norm}/scale") / np.sqrt(variance + BATCH_NORM_EPSILON)
            kernel, bias = kernel * scale, (bias - mean) * scale + self._take(f"params/{norm}/bias")
        return kernel, bias.astype(np.float32)

    def conv(self, x: str, name: str, *, norm: str = "", stride: int = 1, depthwise: bool = False) -> str:
        """`layers.conv` and BatchNorm, or `nafnet_layers`' convolutions."""
        kernel, bias = self._take_layer(name, norm)
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)  # (out, in, h, w)
        group = kernel.shape[0] if depthwise else 1
        pads = [kernel.shape[2] // 2] * 4
        options = {"kernel_shape": kernel.shape[2:], "pads": pads, "strides": [stride, stride], "group": group}
        return self.add("Conv", x, kernel, bias, **options)

    def conv_transpose_2x(self, x: str, name: str, *, norm: str = "") -> str:
        """`layers.ConvTranspose2x` as an ordinary transposed convolution, and BatchNorm."""
        kernel, bias = self._take_layer(name, norm)
        kernel = np.ascontiguousarray(kernel.transpose(2, 3, 0, 1), np.float32)  # (in, out, h, w)
        border = 1 if kernel.shape[2] == 3 else 0
        padding = {"pads": [border] * 4, "output_padding": [border] * 2}
        return self.add("ConvTranspose", x, kernel, bias, kernel_shape=kernel.shape[2:], strides=[2, 2], **padding)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.add("Relu", x)

    def normalise_channels(self, x: str) -> str:
        """`nafnet_layers.normalise_channels`."""
        channels = np.array([1])
        centred = self.add("Sub", x, self.add("ReduceMean", x, channels))
        variance = self.add("ReduceMean", self.add("Mul", centred, centred), channels)
        return self.add("Div", centred, self.add("Sqrt", self.add("Add", variance, np.float32(LAYER_NORM_EPSILON))))

    def simple_gate(self, x: str) -> str:
        """`nafnet_layers.simple_gate`."""
        first, second = self.add_multi_output("Split", 2, x, axis=1, num_outputs=2)
        return self.add("Mul", first, second)

    def local_mean(self, x: str, box: int) -> str:
        """`borders.local_mean_of_image` over boxes of `box` pixels, (B, C, h, w)."""
        for axis in (2, 3):
            length = self.add("Shape", x, start=axis, end=axis + 1)
            side = self.add("Min", length, np.array([box]))
            rows = self.add("Range", np.array(0), self.add("Squeeze", length), np.array(1))
            before = self.add("Div", self.add("Sub", side, np.array([1])), np.array([2]))
            starts = self.add("Max", self.add("Sub", rows, before), np.array([0]))
            starts = self.add("Min", starts, self.add("Sub", length, side))
            pads = np.zeros(8, np.int64)
            pads[axis] = 1  # a zero before the first sum
            sums = self.add("Pad", self.add("CumSum", x, np.array(axis)), pads)
            ends = self.add("Gather", sums, self.add("Add", starts, side), axis=axis)
            difference = self.add("Sub", ends, self.add("Gather", sums, starts, axis=axis))
            x = self.add("Div", difference, self.add("Cast", side, to=onnx.TensorProto.FLOAT))
        return x

    def height_and_width(self, x: str) -> str:
        """Two int64."""
        return self.add("Shape", x, start=2, end=4)
