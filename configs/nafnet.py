"""NAFNet on GOPRO_Large: gated blocks without BatchNorm, at a width that a CPU can afford.

    python -m jaxdeblur.main --config configs/nafnet.py --config.data.root=PATH/TO/GOPRO_Large

`configs/nafnet.py:recommended` is the same: half an hour on a CPU core, for frames of 256x256. `:photographs` takes as
long and learns from crops of whole frames, for photographs as they are. `:gpu` is the published size on the whole data
set. docs/recipes.md says what they gain, and that `:gpu` was not run. `:smoke` passes through everything in minutes on
a CPU; it trains nothing useful.

`:finetune` starts from the shipped network and takes it further on your own pairs, split or not:

    jaxdeblur train nafnet --variant finetune --data PAIRS
"""

from ml_collections import ConfigDict

VARIANTS = ("default", "smoke", "recommended", "photographs", "gpu", "finetune")


# Photographs with made blur, half of each batch: `make data/made` makes them.
MADE = {"root": "data/made", "share": 0.5, "blur": "blur", "resize": 256, "rescale": (1.0, 1.0), "stretch": 1.0}


def get_config(variant: str = "default") -> ConfigDict:
    """Return the recipe, or a variant of it."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/nafnet.py has the variants {', '.join(VARIANTS)}, not {variant!r}")
    config = ConfigDict()
    config.seed = 0  # of the initial weights, the order of images and the augmentation
    # Folder for compiled programs; "": JAX_COMPILATION_CACHE_DIR if that is set, else ~/.cache/jaxdeblur/programs.
    config.compilation_cache = ""
    config.profile_steps = 0  # training steps of each start to trace for TensorBoard's profiler and Perfetto

    config.model = ConfigDict()
    config.model.name = "nafnet"
    config.model.width = 24  # channels at the first level, doubled at each one below; 32 and 64 in the paper
    config.model.encoder_blocks = (1, 1, 1)  # blocks at each level on the way down, from the first level on
    config.model.middle_blocks = 1  # blocks below the last level
    config.model.decoder_blocks = (1, 1, 1)  # blocks at each level on the way up, as many levels, from the first on
    config.model.half_resolution = True  # the first level is at half the image's resolution; False: at its own, 4x work
    # "global": channels are weighed by their means over the whole image, as published, and large photographs can no
    # longer be restored in tiles. "none": they are not.
    config.model.attention = "none"

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
    config.ema_decay = 0.999

    config.start = ConfigDict()
    config.start.network = ""  # start the whole network from: a shipped one's name, a run's folder or a .safetensors
    config.start.encoder = ""  # the network has no encoder

    config.data = ConfigDict()
    config.data.root = (
        "data/GOPRO_Large"  # prepared data, or a folder that holds `train` and `test`, perhaps `validation`
    )
    config.data.blur = "blur"  # or "blur_gamma": which of GOPRO_Large's two blurred images
    # Or "original": test entries 0-499 validate; "drawn", "none": pairs without splits; "auto": splits that are missing
    # are drawn.
    config.data.splits = "official"
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
    config.data.rescale = (1.0, 2.0)
    config.data.stretch = 2.0  # greatest ratio of the factor for height to that for width, drawn as well; 1.0: alike
    config.data.flip_and_turn = True  # mirror and turn training images at random
    config.data.permute_channels = False  # exchange red, green and blue of training images at random
    # Least and greatest factor of a training image's values, drawn log-uniformly; (1.0, 1.0): none. Less where a value
    # would exceed 255, so that nothing is clipped.
    config.data.gain = (1.0, 1.0)
    # Training pairs of other sources, each with its share of every batch: dicts as {"root": "data/made", "share": 0.5,
    # "blur": "blur", "resize": 256, "rescale": (1.0, 1.0), "stretch": 1.0}; data.root has the rest. (): none.
    config.data.mixture = (MADE,)
    config.data.batch_size = 8  # images per step, over all devices
    # Images that an epoch counts, after which the run validates and saves, and by which the lengths of stages go;
    # 0: as many as there are training pairs. With it, a recipe is as long on any data.
    config.data.epoch_images = 2048
    config.data.num_threads = 8  # threads that read images
    # GiB of memory for decoded training images of folders, so that they are not decoded in every epoch; 0.0: none.
    # A pair of 1280x720 takes 0.005. Prepared data does not need it.
    config.data.keep_gib = 1.0

    # One after another. An epoch is as many steps as whole batches fit into its images.
    # Schedules of the learning rate (per step), from the start of their stage on:
    #   {"name": "constant", "learning_rate": 1e-3}
    #   {"name": "cosine", "learning_rate": 1e-3, "warmup": 5, "unit": "epochs"}: rises from 0 in `warmup`, falls to 0
    #   {"name": "step", "learning_rate": 1e-3, "factor": 0.5, "every": 50, "unit": "epochs"}: x `factor` every `every`
    # `unit` is "steps" or "epochs".
    config.stages = (
        ConfigDict(
            {
                "epochs": 16,
                "crop": 128,  # side in pixels of random training crops; 0: whole frames
                "loss": "charbonnier",  # or "mse", "mae", "psnr" (minus the PSNR in dB)
                "accumulate": 1,  # micro-batches that each batch is worked through in, to save memory; 1: all at once
                "clip_norm": 1.0,  # largest global norm of the gradients, larger are scaled to it; 0.0: not clipped
                # The network has no encoder to freeze or to train at another rate.
                "encoder": {"frozen_epochs": 0, "rate": 1.0},
                "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
                "schedule": {"name": "cosine", "learning_rate": 1e-3, "warmup": 200, "unit": "steps"},
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

    if variant == "photographs":
        config.data.resize = 0
        config.data.rescale = (0.5, 1.0)
        config.data.stretch = 1.0
        config.data.mixture = ({**MADE, "resize": 0},)
        config.data.batch_size = 4
        config.evaluation.batch_size = 1
        config.evaluation.protocols = ("full",)
        for stage in config.stages:
            stage.epochs = 11
            stage.crop = 192
    if variant == "finetune":
        config.model.encoder_blocks = (0, 2, 6)  # the options of the shipped network
        config.model.middle_blocks = 6
        config.model.decoder_blocks = (1, 1, 2)
        config.start.network = "nafnet-small"
        config.ema_decay = 0.99
        # Splits that the pairs lack are drawn from them. Of GOPRO_Large, whose sequences share recordings, better name
        # sequences for validation.
        config.data.splits = "auto"
        config.data.validation_sequences = ()
        config.data.resize = 0
        config.data.rescale = (1.0, 1.0)
        config.data.stretch = 1.0
        config.data.mixture = ()
        config.data.epoch_images = 800
        config.evaluation.protocols = ("full",)
        config.evaluation.batch_size = 1
        for stage in config.stages:
            stage.epochs = 8
            stage.crop = 192
            stage.schedule.learning_rate = 1e-4
            stage.schedule.warmup = 50
    if variant == "gpu":
        config.model.width = 32
        config.model.encoder_blocks = (1, 1, 1, 28)
        config.model.decoder_blocks = (1, 1, 1, 1)
        config.model.half_resolution = False
        config.data.resize = 0
        config.data.rescale = (0.5, 1.0)
        config.data.stretch = 1.0
        config.data.mixture = ()
        config.data.batch_size = 32
        config.data.epoch_images = 64_000
        config.data.keep_gib = 0.0
        config.evaluation.protocols = ("full", "256")
        for stage in config.stages:
            stage.epochs = 100
            stage.crop = 256
            stage.optimizer.b2 = 0.9
            stage.schedule.warmup = 1000
    if variant == "smoke":
        config.data.validation_sequences = ("GOPR0477_11_00",)
        config.data.batch_size = 4
        config.data.num_threads = 2
        config.evaluation.batch_size = 4
        for stage in config.stages:
            stage.epochs = 1
            stage.schedule.warmup = 0
            stage.crop = 64
        config.data.epoch_images = 0
        config.data.mixture = ()
        config.data.rescale, config.data.stretch = (1.0, 1.0), 1.0
    return config
