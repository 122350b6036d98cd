"""ResnetEncDec by the recipe of the PyTorch original: MSE on frames of 256x256, Adam for 350 epochs.

Its encoder starts from ImageNet's ResNet-50, which is converted once:

    python tools/convert_weights.py to-jax --network resnet50 --download resnet50 weights/resnet50.safetensors
    python -m jaxdeblur.main --config configs/resnetencdec.py --config.data.root=PATH/TO/GOPRO_Large

Variants: `:recommended` (residual, without BatchNorm; half an hour on two CPU cores), `:photographs` (crops of whole
frames), `:gpu` (not run) and `:smoke`. docs/recipes.md says what they gain. Its other loss is `mae`.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import base_config, constant, load_variant, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = base_config("resnetencdec", width=64, stage_sizes=(3, 4, 6, 3), residual=False, norm="batch")
    config.init.encoder = "weights/resnet50.safetensors"
    config.stages = (stage(350, loss="mse", schedule=constant(1e-3)),)
    return config
