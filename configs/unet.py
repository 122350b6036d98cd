"""UNet on frames of 256x256: a small residual network that starts as the identity. 300 epochs, not tuned.

    python -m jaxdeblur.main --config configs/unet.py --config.data.root=PATH/TO/GOPRO_Large

Variants: `:recommended` (the same) and `:smoke`.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import base_config, cosine, load_variant, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant not in ("default", "recommended"):
        return load_variant(__file__, variant)
    config = base_config("unet", width=24, num_levels=3, num_blocks=2)
    config.ema_decay = 0.999
    config.data.update(flip_and_rotate=True, batch_size=8)
    config.stages = (stage(300, crop=128, loss="charbonnier", clip_norm=1.0, schedule=cosine(1e-3, warmup=500)),)
    return config
