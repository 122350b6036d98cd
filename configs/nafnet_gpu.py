"""NAFNet at its published size (width 32, 36 blocks) on the whole of GOPRO_Large, for a GPU. Not run yet.

Without global attention, so that photographs of any size can be restored in tiles.

Float32, which NVIDIA GPUs compute in TF32: bfloat16 has not been shown to be stable. docs/recipes.md estimates time and
memory.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import adam, cosine, load_recipe, load_variant, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = load_recipe("nafnet")
    config.model.update(width=32, encoder_blocks=(1, 1, 1, 28), decoder_blocks=(1, 1, 1, 1), half_resolution=False)
    config.data.update(resize=0, crop_scale=(1.0, 1.0), zoom=(0.5, 1.0), aspect_jitter=1.0, mixture=())
    config.data.update(batch_size=32, epoch_images=64_000, cache_gib=0.0)
    config.evaluation.protocols = ("full", "256")
    optimizer = adam(b2=0.9)  # as published
    config.stages = (
        stage(
            100, crop=256, loss="charbonnier", clip_norm=1.0, optimizer=optimizer, schedule=cosine(1e-3, warmup=1000)
        ),
    )
    return config
