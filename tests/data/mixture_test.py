"""Mixtures of sources: shares, order and the pairs they consist of."""

import collections
import dataclasses
import shutil

import numpy as np
import pytest

from jaxdeblur.data.mixture import MixtureOptions, Part, assign_example, exclude_scored, open_part
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.errors import InputError
from tests.helpers.batches import AUGMENTED, PLAIN, NumberedSource, batches, digests
from tests.helpers.images import save_pair, write_pairs


class Marked(NumberedSource):
    """`count` pairs whose red channel is `first` + the pair's index."""

    def __init__(self, first, count):
        super().__init__()
        self.first, self.count, self.sizes = first, count, [(32, 32)] * count

    def __len__(self):
        return self.count

    def read(self, index, window):
        pair = super().read(0, window)
        for key in ("blur", "sharp"):
            pair[key][..., 0] = self.first + index
        return pair


def parts(*shares, options=PLAIN):
    """Return parts of 7, 8, ... pairs, numbered from 200, 220, ..."""
    sources = [Marked(200 + 20 * i, 7 + i) for i in range(len(shares))]
    return [
        Part(source, options, share, f"data.mixture[{i}]", "made")
        for i, (source, share) in enumerate(zip(sources, shares, strict=True))
    ]


def open_entry(root, *, inputs=PLAIN, crop=0, skip_invalid=False, **changes):
    options = MixtureOptions(root, 0.5, "blur", dataclasses.replace(inputs, **changes))
    return open_part(options, "data.mixture[0]", skip_invalid=skip_invalid, crop=crop)


def pair_numbers(found):
    """Return the red value that identifies each example's pair; multiples of 20 for the main source."""
    return [int(image[0, 0, 0]) for batch in found for image in batch["blur"]]


def test_every_batch_has_the_shares():
    """0.3 and 0.2 of 8 are 2.4 and 1.6: off by at most one example, and exact in the long run."""
    counts = collections.Counter()
    for step in range(50):
        batch = collections.Counter(assign_example(0, 8 * step + i, 8, (0.3, 0.2))[0] for i in range(8))
        counts += batch
        assert abs(batch[1] - 2.4) <= 1
        assert abs(batch[2] - 1.6) <= 1.3  # its share is taken from what the first leaves
        assert counts[1] == 8 * (step + 1) * 3 // 10
    assert counts == {0: 200, 1: 120, 2: 80}


def test_shares_stay_exact_far_out():
    """At positions beyond float precision, each source's count still increases by one."""
    start, shares = 2**50 * 10, (0.1, 0.7)
    found = collections.defaultdict(list)
    for position in range(start, start + 1000):
        chosen, rank = assign_example(3, position, 10, shares)
        found[chosen].append(rank)
    assert {chosen: len(ranks) for chosen, ranks in found.items()} == {0: 200, 1: 100, 2: 700}
    assert found[1] == list(range(2**50, 2**50 + 100))
    assert all(np.diff(ranks).tolist() == [1] * (len(ranks) - 1) for ranks in found.values())


def test_positions_in_a_batch_are_shuffled():
    """So every process's part and every micro-batch has examples of all sources."""
    places = collections.Counter(
        i for step in range(400) for i in range(4) if assign_example(0, 4 * step + i, 4, (0.25,))[0]
    )
    assert sum(places.values()) == 400
    assert all(70 < places[i] < 130 for i in range(4))
    assert assign_example(0, 17, 4, ()) == (0, 17)


def test_every_source_has_its_own_epochs_and_order():
    numbers = pair_numbers(batches(NumberedSource(), PLAIN, 40, batch_size=5, mixture=parts(0.4, 0.2)))
    orders = set()
    for pairs in (list(range(0, 200, 20)), list(range(200, 207)), list(range(220, 228))):
        shown = [number for number in numbers if number in pairs]
        epochs = [shown[i : i + len(pairs)] for i in range(0, len(shown) - len(pairs) + 1, len(pairs))]
        assert len(epochs) >= 5
        assert all(sorted(epoch) == pairs for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    same = [Part(Marked(200 + 20 * i, 10), PLAIN, 0.3, "", "") for i in range(2)]  # as many as the main source has
    numbers = pair_numbers(batches(NumberedSource(), PLAIN, 10, batch_size=10, mixture=same))
    for pairs in (range(0, 200, 20), range(200, 210), range(220, 230)):
        orders.add(tuple(pairs.index(number) for number in numbers if number in pairs)[:10])
    assert len(orders) == 3


def test_batches_do_not_depend_on_start_or_threads():
    rescaled = dataclasses.replace(
        AUGMENTED, zoom=(0.8, 1.2), aspect_jitter=1.1, permute_channels=True, gain=(0.5, 1.0)
    )
    mixture = parts(0.3, 0.2, options=rescaled)
    whole = digests(batches(NumberedSource(), rescaled, 12, crop=16, mixture=mixture))
    assert len(set(whole)) == 12
    for first_step, num_threads in ((0, 1), (5, 2), (11, 4)):
        rest = batches(
            NumberedSource(),
            rescaled,
            12 - first_step,
            crop=16,
            first_step=first_step,
            num_threads=num_threads,
            mixture=mixture,
        )
        assert digests(rest) == whole[first_step:]
    assert digests(batches(NumberedSource(), rescaled, 12, crop=16, mixture=mixture, seed=1)) != whole


@pytest.mark.parametrize("processes", [2, 6])
def test_parts_of_processes_make_up_the_batch(processes):
    mixture = parts(0.4)
    whole = digests(batches(NumberedSource(), AUGMENTED, 5, crop=24, batch_size=6, mixture=mixture))
    found = [
        batches(
            NumberedSource(),
            AUGMENTED,
            5,
            crop=24,
            batch_size=6,
            process_index=i,
            processes=processes,
            mixture=mixture,
        )
        for i in range(processes)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in ("blur", "sharp")}
        for step in zip(*found, strict=True)
    ]
    assert digests(joined) == whole


def test_each_source_uses_its_own_options(tiny_gopro, tmp_path):
    write_pairs(tmp_path / "made", "train", "scene_m", 3, side=48)
    source = open_folder(tiny_gopro / "train", "blur", skip_invalid=False)
    part = open_entry(tmp_path / "made", resize=32, zoom=(1.5, 1.5))
    assert (part.options.resize, part.options.zoom, part.options.resize_filter) == (32, (1.5, 1.5), "bicubic")
    windows = [
        np.lib.stride_tricks.sliding_window_view(part.source[i]["sharp"], (32, 32, 3)).reshape(-1, 32, 32, 3)
        for i in range(3)
    ]
    frames = np.stack([source[i]["sharp"] for i in range(len(source))])
    for batch in batches(source, PLAIN, 6, batch_size=4, mixture=[part]):
        assert batch["sharp"].shape == (4, 32, 32, 3)
        whole = [bool((frames == image).all(axis=(1, 2, 3)).any()) for image in batch["sharp"]]
        parted = [any((of == image).all(axis=(1, 2, 3)).any() for of in windows) for image in batch["sharp"]]
        assert (sum(whole), sum(parted)) == (2, 2)


def test_training_pairs_are_in_train_or_all_without_splits(tiny_gopro, tmp_path):
    part = open_entry(tiny_gopro)
    assert {sequence for sequence, _ in part.source.names} == {"scene_a", "scene_b", "scene_v"}
    assert (part.data_set, part.field, part.share) == ("GOPRO_Large", "data.mixture[0]", 0.5)
    for frame in range(2):
        save_pair(tmp_path / "mine", f"{frame}.png")
    assert open_entry(tmp_path / "mine").source.names == [("mine", "0"), ("mine", "1")]
    shutil.rmtree(tiny_gopro / "train")
    with pytest.raises(InputError, match=r"data.mixture\[0\].root: .*GOPRO_Large has no folder train \(found: test\)"):
        open_entry(tiny_gopro)
    with pytest.raises(InputError, match=r"data.mixture\[0\].root: .*nowhere is not a folder; expected prepared data"):
        open_entry(tmp_path / "nowhere")


def test_pairs_too_small_for_the_zoomed_crop_are_invalid(tiny_gopro):
    write_pairs(tiny_gopro, "train", "scene_s", 2, side=20)
    with pytest.raises(InputError, match=r"2 problem\(s\)(.|\n)*20x20 pixels, smaller than the crop of 30"):
        open_entry(tiny_gopro, crop=15, zoom=(0.5, 1.0))
    assert len(open_entry(tiny_gopro, crop=15, zoom=(0.5, 1.0), skip_invalid=True).source) == 9
    assert len(open_entry(tiny_gopro, crop=10, zoom=(0.5, 1.0)).source) == 11
    assert len(open_entry(tiny_gopro, crop=15, resize=16).source) == 11


def test_evaluated_scenes_are_excluded(tiny_gopro, tmp_path, capsys):
    """Under any name, and the whole scene if it shares one image."""
    shutil.copytree(tiny_gopro / "train", tmp_path / "more" / "train")
    (tmp_path / "more" / "train" / "scene_v").rename(tmp_path / "more" / "train" / "renamed")
    for variant in ("blur", "sharp"):
        (tmp_path / "more" / "train" / "renamed" / variant / "000002.png").unlink()
        (tmp_path / "more" / "train" / "renamed" / variant / "000003.png").write_bytes(
            (tmp_path / "more" / "train" / "scene_a" / variant / "000001.png").read_bytes()
        )
    part = open_entry(tmp_path / "more")
    scored = open_folder(tiny_gopro / "train", "blur", skip_invalid=False).select(lambda name, frame: name == "scene_v")
    remaining = exclude_scored(part, [scored])
    assert {sequence for sequence, _ in remaining.source.names} == {"scene_a", "scene_b"}
    assert "1 sequence(s) share images with validation or test pairs; excluded, with 2" in capsys.readouterr().err
    assert exclude_scored(remaining, [scored]) is remaining
    with pytest.raises(InputError, match=r"data.mixture\[0\].root: 1 seq.* and there are no others"):
        exclude_scored(dataclasses.replace(part, source=scored), [scored])
