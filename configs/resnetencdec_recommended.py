"""ResnetEncDec as this project recommends it, on frames of 256x256.

A residual network without BatchNorm; half an hour on two CPU cores.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import cosine, load_recipe, load_variant, stage, synthetic_photos


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = load_recipe("resnetencdec")
    config.model.update(residual=True, norm="none")  # starts as the identity; docs/recipes.md compares
    config.ema_decay = 0.99
    config.init.encoder = ""
    config.data.update(crop_scale=(1.0, 2.0), aspect_jitter=2.0, flip_and_rotate=True)
    config.data.mixture = (synthetic_photos(resize=256),)  # with few scenes, the network overfits
    config.data.update(batch_size=4, epoch_images=256, cache_gib=1.0)
    config.stages = (stage(12, crop=128, loss="charbonnier", clip_norm=1.0, schedule=cosine(5e-4, warmup=30)),)
    return config
