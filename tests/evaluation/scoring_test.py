"""Scoring: every image once, in order, whatever the batch size; the identity beside it."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.augment import InputOptions
from jaxdeblur.evaluation import scoring
from jaxdeblur.evaluation.metrics import METRICS, image_metrics
from jaxdeblur.images.arrays import to_uint8

RNG = np.random.default_rng(0)


def make_pairs(sizes):
    pairs = []
    for i, (height, width) in enumerate(sizes):
        sharp = RNG.integers(0, 256, (height, width, 3), np.uint8)
        blur = np.clip(sharp.astype(int) + RNG.integers(-30, 30, sharp.shape), 0, 255).astype(np.uint8)
        pairs.append({"blur": blur, "sharp": sharp, "sequence": f"s{i // 3}", "frame": str(i)})
    return pairs


def darken(seen):
    """A network that darkens by a tenth and notes the batches it is given."""

    def predict(variables, blur):
        del variables
        seen.append(blur.shape)
        return blur.astype(np.float32) / 255 - 0.1

    return predict


def score(pairs, batch_size, *, sample_count=3):
    seen = []
    result = scoring.evaluate(
        darken(seen),
        None,
        pairs,
        num_pairs=len(pairs),
        batch_size=batch_size,
        sample_count=sample_count,
        measures=scoring.Measures(similarity=True, lpips=None),
        num_threads=2,
    )
    return result, seen


def test_every_image_is_scored_once_whatever_the_batch_size():
    pairs = make_pairs([(8, 10)] * 7)
    expected = [image_metrics(pair["blur"] / 255 - 0.1, pair["sharp"])["psnr"] for pair in pairs]
    for batch_size in (1, 3, 4, 16):
        result, seen = score(pairs, batch_size)
        assert [image["frame"] for image in result.images] == list("0123456")
        assert [image["psnr"] for image in result.images] == pytest.approx(expected, abs=1e-4)
        assert sum(shape[0] for shape in seen) == 7  # none twice
        assert all(shape[0] == batch_size for shape in seen[:-1])
        assert result.summary == score(pairs, 2)[0].summary


def test_images_of_other_sizes_are_batched_apart():
    result, seen = score(make_pairs([(8, 8), (8, 8), (8, 8), (6, 9), (8, 8)]), 2)
    assert seen == [(2, 8, 8, 3), (1, 8, 8, 3), (1, 6, 9, 3), (1, 8, 8, 3)]
    assert len(result.images) == 5


def test_identity_is_the_blurred_inputs_own_score():
    pairs = make_pairs([(8, 10)] * 4)
    result, _ = score(pairs, 4)
    own = [image_metrics(pair["blur"] / 255, pair["sharp"])["psnr"] for pair in pairs]
    assert [image["identity"]["psnr"] for image in result.images] == own
    assert result.summary["identity"]["psnr"] == pytest.approx(np.mean(own))
    gains = [image["psnr"] - identity for image, identity in zip(result.images, own, strict=True)]
    assert result.summary["gain_psnr"]["mean"] == pytest.approx(np.mean(gains))


def test_samples_are_spread_over_the_split():
    result, _ = score(make_pairs([(8, 8)] * 9), 2, sample_count=3)
    assert [sample["frame"] for sample in result.samples] == ["0", "4", "8"]
    sample = result.samples[1]
    np.testing.assert_array_equal(sample["prediction"], to_uint8(sample["blur"] / np.float32(255) - 0.1))
    parts = np.split(scoring.strip(sample), 3, axis=1)
    for part, key in zip(parts, ("blur", "prediction", "sharp"), strict=True):
        np.testing.assert_array_equal(part, sample[key])


def test_saved_images_are_clipped_and_rounded():
    image = np.array([-0.1, 0.6 / 255, 254.4 / 255, 1.1])
    np.testing.assert_array_equal(to_uint8(image), [0, 1, 254, 255])


def test_a_written_evaluation_has_its_protocol_and_images(tmp_path):
    result, _ = score(make_pairs([(8, 8)] * 3), 2, sample_count=1)
    options = InputOptions(resize=0, resize_filter="bicubic", flip_and_rotate=False)
    protocol = scoring.make_protocol(
        options,
        data_set="d",
        split="test",
        splits="original",
        blur="blur",
        num_images=3,
        num_skipped=2,
        weights="a file",
        weights_sha256="w",
        checkpoint_step=7,
    )
    path = scoring.evaluation_path(tmp_path, protocol)
    scoring.write_evaluation(path, protocol, result, {"images_per_s": 2.0})
    record = json.loads((tmp_path / "test-full.json").read_text())
    assert path.name == "test-full.json"
    assert record["protocol"]["resize_filter"] == "none"
    assert (record["protocol"]["split_rule"], record["protocol"]["pairs_skipped"]) == ("original", 2)
    assert {
        "data_set",
        "split",
        "blur_variant",
        "resolution",
        "number_of_images",
        "weights",
        "weights_sha256",
        "date",
        "code_version",
    } <= {*record["protocol"]}
    assert {*METRICS} <= record["summary"].keys()
    assert record["summary"]["identity"].keys() == {*METRICS}
    assert [image["frame"] for image in record["images"]] == ["0", "1", "2"]
    saved = np.asarray(Image.open(tmp_path / record["samples"][0]["files"]["prediction"]))
    np.testing.assert_array_equal(saved, result.samples[0]["prediction"])
