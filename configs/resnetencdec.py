"""ResnetEncDec on GOPRO_Large, by the recipe of the PyTorch original.

Its encoder starts from ImageNet's ResNet-50, which is made once:

    python tools/convert_weights.py to-jax --network resnet50 --download resnet50 weights/resnet50.safetensors

    python -m jaxdeblur.main --config configs/resnetencdec.py --config.data.root=PATH/TO/GOPRO_Large

The variant `configs/resnetencdec.py:recommended` is what this project makes of the network: it has no BatchNorm, and
learns what to add to its input; half an hour on two CPU cores. `:photographs` learns from crops of whole
frames, for photographs as they are; docs/recipes.md says what both gain. `:gpu` is for the whole data set, and was not
run. `:smoke` passes through everything in minutes on a CPU; it trains nothing useful.
"""

from ml_collections import ConfigDict

VARIANTS = ("default", "smoke", "recommended", "photographs", "gpu")


# Photographs with made blur, half of each batch of the recommended recipes: `make data/made` makes them.
MADE = {"root": "data/made", "share": 0.5, "blur": "blur", "resize": 256, "rescale": (1.0, 1.0), "stretch": 1.0}


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/resnetencdec.py has the variants {', '.join(VARIANTS)}, not {variant!r}")
    config = ConfigDict()
    config.seed = 0  # of the initial weights, the order of images and the augmentation
    # Folder for compiled programs; "": JAX_COMPILATION_CACHE_DIR if that is set, else ~/.cache/jaxdeblur/programs.
    config.compilation_cache = ""
    config.profile_steps = 0  # training steps of each start to trace for TensorBoard's profiler and Perfetto

    config.model = ConfigDict()
    config.model.name = "resnetencdec"
    config.model.width = 64  # channels of the encoder's stem
    config.model.stage_sizes = (3, 4, 6, 3)  # bottlenecks in the encoder's stages: ResNet-50
    # True: what the network puts out is added to its input, and starts at zero; False: a sigmoid makes it the image.
    config.model.residual = False
    config.model.norm = "batch"  # or "none": no BatchNorm, biases instead; ImageNet's ResNet-50 then does not fit

    config.compute = ConfigDict()
    # What the network computes in: "float32" or "bfloat16", in which what passes between its layers takes half the
    # memory. Parameters, BatchNorm's statistics, loss, optimizer and output are float32 either way.
    config.compute.dtype = "float32"
    config.compute.remat = False  # True: less memory, more time: most activations are computed anew going backward
    config.compute.cpu_fast_conv = (
        True  # on CPUs, convolutions in faster forms, the same to rounding; False: plain everywhere
    )

    # Decay per step of an exponential moving average (EMA) of the parameters, as 0.999; 0.0: none is kept. Where it
    # is, it is what is validated, scored, exported and started from; BatchNorm's statistics are running means anyway.
    config.ema_decay = 0.0

    config.start = ConfigDict()
    config.start.network = ""  # start the whole network from: a shipped one's name, a run's folder or a .safetensors
    # ImageNet's ResNet-50, as tools/convert_weights.py makes it; "": random, and the encoder not pretrained.
    config.start.encoder = "weights/resnet50.safetensors"

    config.data = ConfigDict()
    config.data.root = (
        "data/GOPRO_Large"  # prepared data, or a folder that holds `train` and `test`, perhaps `validation`
    )
    config.data.blur = "blur"  # or "blur_gamma": which of GOPRO_Large's two blurred images
    config.data.splits = "official"  # "original": test entries 0-499 validate; "drawn", "none": pairs without splits
    # Held out of training for validation, as whole sequences: recordings that no other sequence shares. Not needed
    # where the data has a folder `validation` of its own.
    config.data.validation_sequences = ("GOPR0477_11_00", "GOPR0857_11_00", "GOPR0884_11_00")
    config.data.skip_bad = False  # True: go on without damaged, lonely or too small pairs, and say how many
    config.data.resize = 256  # side in pixels of the square that whole frames are resized to; 0: not resized
    config.data.resize_filter = "bicubic"  # nearest, bilinear, bicubic or lanczos
    # Least and greatest factor that training images are enlarged by at random (drawn log-uniformly), and the length of
    # their blur with them; (1.0, 1.0): none. With `resize`, a random window of 1 / factor of the frame's sides is
    # squeezed in place of the frame: with (1.0, 2.0) blur is once to twice as long as under protocol 256, where that of
    # 1280x720 frames is 1/5 as long across and 1/2.8 as long down. Without, frames are rescaled before the crop.
    config.data.rescale = (1.0, 1.0)
    config.data.stretch = 1.0  # greatest ratio of the factor for height to that for width, drawn as well; 1.0: alike
    config.data.flip_and_turn = False  # mirror and turn training images at random
    config.data.permute_channels = False  # exchange red, green and blue of training images at random
    # Least and greatest factor of a training image's values, drawn log-uniformly; (1.0, 1.0): none. Less where a value
    # would exceed 255, so that nothing is clipped.
    config.data.gain = (1.0, 1.0)
    # Training pairs of other sources, each with its share of every batch: dicts as {"root": "data/made", "share": 0.5,
    # "blur": "blur", "resize": 256, "rescale": (1.0, 1.0), "stretch": 1.0}; data.root has the rest. (): none.
    config.data.mixture = ()
    config.data.batch_size = 16  # images per step, over all devices
    # Images that an epoch counts, after which the run validates and saves, and by which the lengths of stages go;
    # 0: as many as there are training pairs. With it, a recipe is as long on any data.
    config.data.epoch_images = 0
    config.data.num_threads = 8  # threads that read images
    # GiB of memory for decoded training images of folders, so that they are not decoded in every epoch; 0.0: none.
    # A pair of 1280x720 takes 0.005. Prepared data does not need it.
    config.data.keep_gib = 0.0

    # One after another. An epoch is as many steps as whole batches fit into its images.
    # Schedules of the learning rate (per step), from the start of their stage on:
    #   {"name": "constant", "learning_rate": 1e-3}
    #   {"name": "cosine", "learning_rate": 1e-3, "warmup": 5, "unit": "epochs"}: rises from 0 in `warmup`, falls to 0
    #   {"name": "step", "learning_rate": 1e-3, "factor": 0.5, "every": 50, "unit": "epochs"}: x `factor` every `every`
    # `unit` is "steps" or "epochs".
    config.stages = (
        ConfigDict(
            {
                "epochs": 350,
                "crop": 0,  # side in pixels of random training crops; 0: whole frames
                "loss": "mse",  # or "mae", "charbonnier", "psnr" (minus the PSNR in dB)
                "accumulate": 1,  # micro-batches that each batch is worked through in, to save memory; 1: all at once
                "clip_norm": 0.0,  # largest global norm of the gradients, larger are scaled to it; 0.0: not clipped
                # The encoder: epochs at the stage's start without any update; learning rate relative to the schedule's.
                "encoder": {"frozen_epochs": 0, "rate": 1.0},
                "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
                "schedule": {"name": "constant", "learning_rate": 1e-3},
            }
        ),
    )

    config.evaluation = ConfigDict()
    # By name: "256" is whole frames resized to 256x256 (any side), "full" as they are. The first validates training.
    config.evaluation.protocols = ("256",)
    config.evaluation.lpips = ""  # file of LPIPS's weights; "": not measured
    config.evaluation.batch_size = 16  # images scored at once; does not change the scores
    config.evaluation.sample_count = 8  # images kept to look at

    config.checkpoint = ConfigDict()
    config.checkpoint.keep_latest = 2  # newest checkpoints kept, beside the best; one is written after each epoch

    config.log = ConfigDict()
    config.log.every_steps = 10

    if variant in ("recommended", "photographs", "gpu"):
        config.model.residual = True
        config.model.norm = "none"
        config.ema_decay = 0.99
        config.start.encoder = ""
        config.data.flip_and_turn = True
        config.data.rescale = (1.0, 2.0)
        config.data.stretch = 2.0
        config.data.mixture = (MADE,)
        config.data.batch_size = 4
        config.data.epoch_images = 256
        config.data.keep_gib = 1.0
        config.stages = (
            ConfigDict(
                {
                    "epochs": 12,
                    "crop": 128,
                    "loss": "charbonnier",
                    "accumulate": 1,
                    "clip_norm": 1.0,
                    "encoder": {"frozen_epochs": 0, "rate": 1.0},
                    "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
                    "schedule": {"name": "cosine", "learning_rate": 5e-4, "warmup": 30, "unit": "steps"},
                }
            ),
        )
    if variant == "photographs":
        config.data.resize = 0
        config.data.rescale = (0.5, 1.0)
        config.data.stretch = 1.0
        config.data.mixture = ({**MADE, "resize": 0},)
        config.evaluation.batch_size = 1
        config.evaluation.protocols = ("full",)
    if variant == "gpu":
        config.ema_decay = 0.999
        config.data.mixture = ()
        config.data.batch_size = 32
        config.data.epoch_images = 32_000
        config.data.keep_gib = 0.0
        for stage in config.stages:
            stage.epochs = 100
            stage.crop = 256
            stage.schedule.warmup = 1000
    if variant == "smoke":
        config.start.encoder = ""
        config.data.validation_sequences = ("GOPR0477_11_00",)
        config.data.batch_size = 4
        config.data.num_threads = 2
        config.evaluation.batch_size = 4
        for stage in config.stages:
            stage.epochs = 1
            stage.crop = 128
    return config
