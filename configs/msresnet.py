"""MSResNet by DeepDeblur's recipe: L1 at each of three scales, crops of 256x256, Adam for 1,000 epochs. Not run.

    python -m jaxdeblur.main --config configs/msresnet.py --config.data.root=PATH/TO/GOPRO_Large

For a GPU. The paper's loss is `mse`; `mae` is that of the released weights. Two of the authors' augmentations are left
out: random saturation of colours, and Gaussian noise. Variant: `:smoke`.
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import base_config, load_variant, milestones, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = base_config("msresnet", width=64, num_blocks=19, num_scales=3)
    config.data.blur_variant = "blur_gamma"
    config.data.update(resize=0, batch_size=16, flip_and_rotate=True, permute_channels=True)
    config.evaluation.protocols = ("full", "256")
    schedule = milestones(1e-4, factor=0.5, at=(500, 750, 900))
    config.stages = (stage(1000, crop=256, loss="mae", schedule=schedule),)
    return config
