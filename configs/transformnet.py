"""TransformNet by the recipe of the PyTorch original: MSE on frames of 256x256, Adam for 350 epochs, then SGD for 200.

    python -m jaxdeblur.main --config configs/transformnet.py --config.data.root=PATH/TO/GOPRO_Large

Variants: `:recommended` (residual, without BatchNorm; half an hour on a CPU core), `:photographs` (crops of whole
frames), `:gpu` (not run) and `:smoke`. docs/recipes.md says what they gain. Its other loss is `mae`.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import base_config, constant, load_variant, sgd, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = base_config("transformnet", width=32, num_blocks=5, residual=False, norm="batch")
    config.stages = (
        stage(350, loss="mse", schedule=constant(1e-3)),
        stage(200, loss="mse", optimizer=sgd(), schedule=constant(1e-4)),
    )
    return config
