"""ResnetEncDec as this project recommends it, on the whole of GOPRO_Large, for a GPU. Not run yet.

Float32, which NVIDIA GPUs compute in TF32: bfloat16 has not been shown to be stable. docs/recipes.md estimates time and
memory.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import cosine, load_recipe, load_variant, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = load_recipe("resnetencdec_recommended")
    config.ema_decay = 0.999
    config.data.update(mixture=(), batch_size=32, epoch_images=32_000, cache_gib=0.0)
    config.stages = (stage(100, crop=256, loss="charbonnier", clip_norm=1.0, schedule=cosine(5e-4, warmup=1000)),)
    return config
