"""Which of a checkpoint's tensors are selected, for the layouts in which training code saves them. No PyTorch."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.weights.torch_checkpoints import select_tensors
from jaxdeblur.weights.torch_names import is_torch_name

# Names of TransformNet; the numbers in the tensors identify groups.
NAMES = ("conv1.weight", "conv1.bias", "bn1.running_mean", "res_blocks.0.conv1.weight")
COUNTER = np.zeros((), np.int64)
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(3)}}, "param_groups": [{"lr": 0.1}]}


def network(number, prefix=""):
    return {f"{prefix}{name}": np.full(2, number) for name in NAMES}


def select(checkpoint, which=None, name="transformnet"):
    return select_tensors(Path("theirs.pth"), checkpoint, partial(is_torch_name, name), which)


def selected(checkpoint, which=None):
    """Return the number of the selected group, which must be complete and have the network's own names."""
    tensors = select(checkpoint, which).tensors
    assert sorted(tensors) == sorted(NAMES)
    (number,) = {int(value) for tensor in tensors.values() for value in tensor}
    return number


WRAPPERS = {
    "bare": lambda tensors: tensors,
    "Lightning": lambda tensors: {"state_dict": tensors, "epoch": 3, "optimizer_states": [OPTIMIZER]},
    "BasicSR": lambda tensors: {"params": tensors},
    "twice": lambda tensors: {"epoch": 3, "model": {"params": tensors}, "optimizer": OPTIMIZER},
    "generator": lambda tensors: {"netG": tensors, "netD": {"conv1.weight": np.full(2, 9)}},
    "upper-case generator": lambda tensors: {"G": tensors, "D": {"conv1.weight": np.full(2, 9)}, "iteration": COUNTER},
}
PREFIXES = (
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "model._orig_mod.",
    "generator.",
    "netG.module.",
    "G.",
)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_and_prefixes_are_removed(wrapper, prefix):
    assert selected(WRAPPERS[wrapper](network(5, prefix))) == 5


PAIRS = {
    "BasicSR": {"params": network(0), "params_ema": network(1)},
    "timm": {"state_dict": network(0, "module."), "state_dict_ema": network(1), "optimizer": OPTIMIZER},
    "ema": {"model": network(0), "ema": network(1)},
    "ema, module": {"model": network(0, "_orig_mod."), "ema": {"module": network(1), "updates": 100}},
    "ema_state_dict": {"state_dict": network(0), "ema_state_dict": network(1)},
    "model_ema": {"model": network(0), "model_ema": network(1, "module.")},
    "shadow": {"net": network(0), "ema": {"shadow": network(1), "decay": 0.999}},
    "Lightning, prefixes": {"state_dict": {**network(0, "model."), **network(1, "ema_model.module.")}},
    "GAN, prefixes": {
        "state_dict": {
            **network(0, "generator."),
            **network(1, "generator_ema."),
            "discriminator.conv1.weight": np.full(2, 9),
            "step_counter": COUNTER,
        }
    },
    "GAN, keys": {"g": network(0), "g_ema": network(1), "d": {"conv1.weight": np.full(2, 9)}},
    "flat": {**network(0, "params."), **network(1, "params_ema.")},
    # Both swap the two on saving: https://github.com/open-mmlab/mmengine, hooks/ema_hook.py, and Lightning's
    # callbacks/weight_averaging.py.
    "MMEngine": {
        "message_hub": {},
        "state_dict": network(1),
        "ema_state_dict": {**network(0, "module."), "steps": COUNTER},
    },
    "Lightning, WeightAveraging": {
        "averaging_state": {"n_averaged": COUNTER},
        "state_dict": network(1, "model."),
        "current_model_state": network(0, "model."),
    },
}


@pytest.mark.parametrize("form", PAIRS)
def test_ema_weights_are_the_default(form):
    assert [selected(PAIRS[form], which) for which in (None, "ema", "raw")] == [1, 1, 0]


def test_a_single_average_is_selected():
    """`torch.optim.swa_utils.AveragedModel` counts its updates in a tensor."""
    assert selected({"n_averaged": COUNTER, **network(4, "module.")}) == 4
    assert selected({"params_ema": network(4)}) == 4


def test_an_average_of_parameters_gets_its_running_statistics_from_the_raw_weights():
    averaged = {name: tensor for name, tensor in network(1).items() if "running" not in name}
    selection = select({"state_dict": network(0), "ema": averaged})
    assert {name: tensor[0] for name, tensor in selection.tensors.items()} == dict.fromkeys(NAMES, 1) | {
        "bn1.running_mean": 0
    }
    assert "running statistics from state_dict" in selection.description
    del averaged["conv1.bias"]  # parameters are never filled in
    assert "conv1.bias" not in select({"state_dict": network(0), "ema": averaged}).tensors


def test_one_line_describes_the_selection():
    words = select(PAIRS["timm"]).description
    assert words == (
        "theirs.pth: 4 tensors taken from state_dict_ema, the EMA weights; --which raw takes state_dict.module.*; "
        "not used: optimizer"
    )
    words = select(PAIRS["GAN, prefixes"], "raw").description
    assert words == (
        "theirs.pth: 4 tensors taken from state_dict.generator.*; --which ema takes state_dict.generator_ema.*; "
        "not used: state_dict.discriminator"
    )
    assert select(network(0)).description == "theirs.pth: 4 tensors taken from the top level"


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_unknown_tensors_with_the_networks_prefix_are_kept(prefix):
    """The conversion refuses them later: with an extra layer it is another network."""
    checkpoint = {**network(0, prefix), f"{prefix}extra.weight": np.ones(2), f"{prefix}module.extra": np.ones(2)}
    assert {"extra.weight", "module.extra"} < select(checkpoint).tensors.keys()


def test_another_network_is_selected_so_that_the_conversion_can_list_its_names():
    assert select({"epoch": 3, "state_dict": {"module.a": np.ones(2)}, "step": COUNTER}).tensors.keys() == {"a"}


@pytest.mark.parametrize("name", ["features.0.weight", "lin0.model.1.weight"])
def test_the_two_files_of_lpips_keep_their_names(name):
    assert select({name: np.ones(2)}, name="lpips_alex").tensors.keys() == {name}


@pytest.mark.parametrize(
    ("checkpoint", "which", "code"),
    [
        ({"epoch": 3}, None, "checkpoint-without-tensors"),
        ({}, None, "checkpoint-without-tensors"),
        ({"model": network(0), "params": network(0)}, None, "checkpoint-ambiguous"),
        ({**network(0), **network(0, "model.")}, None, "checkpoint-ambiguous"),
        ({"params_ema": network(1), "ema": network(1)}, None, "checkpoint-ambiguous"),
        ({"params": network(0)}, "ema", "checkpoint-no-ema"),
        ({"params_ema": network(1)}, "raw", "checkpoint-no-raw"),
        # torch_ema saves a list without names; LitEma saves names without dots.
        ({"model": network(0), "ema": {"shadow_params": [np.ones(2)]}}, None, "checkpoint-unreadable-ema"),
        ({**network(0, "model."), "model_ema.conv1weight": np.ones(2)}, None, "checkpoint-unreadable-ema"),
    ],
)
def test_undecidable_checkpoints_are_refused(checkpoint, which, code):
    with pytest.raises(InputError, match=r"^theirs\.pth: ") as error:
        select(checkpoint, which)
    assert error.value.code == code


def test_unreadable_averages_do_not_affect_the_raw_weights():
    assert selected({"model": network(0), "ema": {"shadow_params": [np.ones(2)]}}, "raw") == 0
    assert selected({"model": network(0), "ema": {"updates": COUNTER, "decay": 0.999}}) == 0
