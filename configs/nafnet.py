"""NAFNet on frames of 256x256, at a width that a CPU can afford: half an hour on a CPU core.

    python -m jaxdeblur.main --config configs/nafnet.py --config.data.root=PATH/TO/GOPRO_Large

Variants: `:recommended` (the same), `:photographs` (crops of whole frames), `:gpu` (the published size; not run),
`:finetune` (the shipped network on your own pairs) and `:smoke`. docs/recipes.md says what they gain.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import base_config, cosine, load_variant, stage, synthetic_photos


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant not in ("default", "recommended"):
        return load_variant(__file__, variant)
    config = base_config(
        "nafnet",
        width=24,  # 32 and 64 in the paper
        encoder_blocks=(1, 1, 1),
        middle_blocks=1,
        decoder_blocks=(1, 1, 1),
        half_resolution=True,  # a quarter of the work
        attention="none",  # global attention would rule out tiles, and so large photographs
    )
    config.ema_decay = 0.999
    # Protocol 256 shrinks frames; windows of the frame keep blur of all lengths in the training data.
    config.data.update(crop_scale=(1.0, 2.0), aspect_jitter=2.0, flip_and_rotate=True)
    config.data.mixture = (synthetic_photos(resize=256),)  # with few scenes, the network overfits
    config.data.update(batch_size=8, epoch_images=2048, cache_gib=1.0)
    config.stages = (stage(16, crop=128, loss="charbonnier", clip_norm=1.0, schedule=cosine(1e-3, warmup=200)),)
    return config
