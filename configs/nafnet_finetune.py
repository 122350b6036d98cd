"""The shipped network, fine-tuned on your own pairs, split or not.

jaxdeblur train nafnet --variant finetune --data PAIRS
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import cosine, load_recipe, load_variant, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = load_recipe("nafnet")
    config.init.network = "nafnet-small"
    config.model.update(encoder_blocks=(0, 2, 6), middle_blocks=6, decoder_blocks=(1, 1, 2))  # the shipped network's
    config.ema_decay = 0.99  # a short run
    # Missing splits are drawn. Sequences of GOPRO_Large share recordings: there, better name validation sequences.
    config.data.update(splits="auto", validation_sequences=())
    config.data.update(resize=0, crop_scale=(1.0, 1.0), aspect_jitter=1.0, mixture=(), epoch_images=800)
    config.evaluation.update(protocols=("full",), batch_size=1)
    config.stages = (stage(8, crop=192, loss="charbonnier", clip_norm=1.0, schedule=cosine(1e-4, warmup=50)),)
    return config
