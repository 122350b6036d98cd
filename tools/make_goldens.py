"""Write `tests/golden/<network>.npz`: outputs of PyTorch's networks for reproducible weights and images.

    python tools/make_goldens.py

Each file holds every tensor's name and shape and, for each size and mode, the outputs at every third pixel. The tests
create the same weights and images with NumPy only; this script needs PyTorch: pip install '.[convert]'.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from random_weights import random_image, random_tensor

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require

if TYPE_CHECKING:
    import torch

SIZES = ((64, 96), (100, 132), (180, 320))
# A small NAFNet, as published but for width, depths and boxes; sizes that are and are not multiples of 4.
NAFNET = {"width": 4, "encoder_blocks": (1, 2), "middle_blocks": 1, "decoder_blocks": (1, 2)}
NAFNET_BOX = 16
NAFNET_SIZES = ((24, 32), (37, 50))
GOLDEN = Path(__file__).parent.parent / "tests" / "golden"


def random_state(network: "torch.nn.Module") -> dict[str, "torch.Tensor"]:
    """Return a state dict of random tensors for a network."""
    import torch

    return {
        name: tensor if name.endswith("num_batches_tracked") else torch.from_numpy(random_tensor(name, tensor.shape))
        for name, tensor in network.state_dict().items()
    }


def outputs(network: "torch.nn.Module", train: bool) -> dict[str, np.ndarray]:
    """Return the network's outputs for all sizes, every third row and column, NHWC, computed in float64."""
    import torch

    network.double()
    by_case = {}
    for height, width in SIZES:
        network.load_state_dict(random_state(network))
        network.train(train)
        with torch.no_grad():
            image = torch.from_numpy(random_image(height, width)).double().permute(0, 3, 1, 2)
            output = network(image).permute(0, 2, 3, 1).numpy()
        spread = float(output.std())
        if spread < 0.02 or output.min() < 1e-3 or output.max() > 1 - 1e-3:
            raise SystemExit(f"outputs of spread {spread} in [{output.min()}, {output.max()}] would hide errors")
        by_case[f"{'train' if train else 'eval'}-{height}x{width}"] = output[:, ::3, ::3].astype(np.float32)
    return by_case


def write_msresnet() -> None:
    """Write the file of a small MSResNet: options, shapes, an image, and the outputs of all scales."""
    import torch
    from torch_networks import MSResNet

    options = {"width": 4, "num_blocks": 2}
    network, image = MSResNet(**options), random_image(20, 28, batch=1)
    network.load_state_dict(random_state(network))
    with torch.no_grad():
        scales = network.double().all_scales(torch.from_numpy(image).double().permute(0, 3, 1, 2))
    arrays = {
        name: output.permute(0, 2, 3, 1).numpy().astype(np.float32)
        for name, output in zip(("fine", "middle", "coarse"), scales, strict=True)
    }
    shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    texts = {"options": np.array(json.dumps(options)), "shapes": np.array(json.dumps(shapes))}
    np.savez_compressed(GOLDEN / "msresnet.npz", image=image, **texts, **arrays)
    print("msresnet", {key: f"spread {array.std():.3f}" for key, array in arrays.items()})


def nafnet_outputs() -> dict[str, np.ndarray]:
    """Return the small NAFNet's outputs by attention and size, NHWC, computed in float64."""
    import torch
    from torch_networks import NAFNet

    by_case = {}
    for attention in ("global", "local"):
        network = NAFNet(**NAFNET, attention=attention, attention_box=NAFNET_BOX)
        network.load_state_dict(random_state(network))
        network.double()
        for height, width in NAFNET_SIZES:
            with torch.no_grad():
                image = torch.from_numpy(random_image(height, width, batch=1)).double().permute(0, 3, 1, 2)
                output = network(image).permute(0, 2, 3, 1).numpy()
            by_case[f"{attention}-{height}x{width}"] = output.astype(np.float32)
    return by_case


def main() -> None:
    """Write one file per network."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    require("torch", "Writing the goldens")
    from torch_networks import NETWORKS

    for name, build in NETWORKS.items():
        network = build()
        shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        arrays = {**outputs(network, train=False), **outputs(network, train=True)}
        np.savez_compressed(GOLDEN / f"{name}.npz", shapes=np.array(json.dumps(shapes)), **arrays)
        print(name, {key: f"spread {array.std():.3f}" for key, array in arrays.items()})
    write_msresnet()
    np.savez_compressed(GOLDEN / "nafnet.npz", **nafnet_outputs())


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
