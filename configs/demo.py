"""The shipped network, fine-tuned on photographs that are blurred synthetically: `make demo`, in minutes on a CPU.

python tools/make_demo_data.py --output data/demo
python -m jaxdeblur.main --config configs/demo.py --workdir runs/demo
"""

from ml_collections import ConfigDict

from jaxdeblur.config.recipes import adam, cosine, load_recipe, load_variant, stage


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant != "default":
        return load_variant(__file__, variant)
    config = load_recipe("nafnet_finetune")
    config.data.update(root="data/demo", splits="official", validation_sequences=("coffee",))
    config.data.update(num_threads=2, cache_gib=0.5)
    config.evaluation.batch_size = 16
    schedule = cosine(1e-4, warmup=50)
    config.stages = (stage(3, crop=128, loss="charbonnier", clip_norm=1.0, optimizer=adam(b2=0.99), schedule=schedule),)
    return config
