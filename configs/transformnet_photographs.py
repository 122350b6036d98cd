"""TransformNet for photographs at full resolution: learns from crops of whole frames, half an hour on a CPU core."""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import load_recipe, load_variant, synthetic_photos


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = load_recipe("transformnet_recommended")
    config.data.update(resize=0, crop_scale=(1.0, 1.0), zoom=(0.5, 1.0), aspect_jitter=1.0)
    config.data.mixture = (synthetic_photos(resize=0),)
    config.evaluation.update(protocols=("full",), batch_size=1)
    return config
