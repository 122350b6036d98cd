"""Records survive a round trip through JSON; every missing or mistyped field is named."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.runs import records
from jaxdeblur.runs.typed_json import parse

METRICS = {"psnr": 25, "psnr_uint8": 24.9, "ssim": None, "ssim_matlab": 0.7, "lpips": None, "mae": 0.1, "mse": 0.01}
IMAGE = {"sequence": "a", "frame": "1", **METRICS, "identity": METRICS}


def refuse(kind, tree):
    with pytest.raises(InputError) as error:
        parse(kind, tree, Path("eval/x.json"), remedy="Evaluate again.")
    assert error.value.code == "invalid-record"
    heading, *problems, remedy = str(error.value).splitlines()
    assert (heading, remedy) == ("eval/x.json: missing or invalid fields:", "Evaluate again.")
    return problems


def test_a_record_survives_a_round_trip(tmp_path):
    image = parse(records.ImageRecord, IMAGE, Path("x"), remedy="")
    assert (image.name, image.psnr, image.identity.mse) == (("a", "1"), 25, 0.01)
    assert [*records.to_json(image)] == [*IMAGE]  # the order of keys too
    records.write_record(tmp_path / "new" / "x.json", [image])
    tree = json.loads((tmp_path / "new" / "x.json").read_text())
    assert tree == [IMAGE]
    assert parse(list[records.ImageRecord], tree, Path("x"), remedy="") == [image]


def test_all_problems_are_listed_by_dotted_name():
    lacking = {key: value for key, value in METRICS.items() if key != "mae"}
    tree = [IMAGE, {**IMAGE, "frame": 7, "psnr": True, "ssim": "0.9", "ssim_matlab": None, "identity": lacking}, []]
    assert refuse(list[records.ImageRecord], tree) == [
        "  - [1].frame: is an integer, expected a string",
        "  - [1].psnr: is true or false, expected a number",
        "  - [1].ssim: is a string, expected a number or null",
        "  - [1].ssim_matlab: is null, expected a number",
        "  - [1].identity.mae: missing",
        "  - [2]: is a list, expected an object",
    ]
    assert refuse(list[records.ImageRecord], {}) == ["  - the file: is an object, expected a list"]


def test_defaults_unknown_keys_and_unions():
    facts = {field.name: "" for field in dataclasses.fields(records.RunFacts)}
    facts |= {"parameters": 3, "pairs": {"test": 5}, "command": ["a"], "trained": False, "from a later version": 1}
    facts |= {"pairs_skipped": {"test": 1}, "mixture": {"data.mixture[0]": {"data_set": "b", "share": 1}}}
    parsed = parse(records.RunFacts, facts, Path("x"), remedy="")
    assert (parsed.pairs_skipped, parsed.mixture["data.mixture[0]"].share) == ({"test": 1}, 1)
    del facts["trained"], facts["mixture"]
    parsed = parse(records.RunFacts, {**facts, "pairs_skipped": 0}, Path("x"), remedy="")
    assert (parsed.trained, parsed.mixture, parsed.pairs_skipped) == (True, {}, 0)
    assert refuse(records.RunFacts, {**facts, "pairs": {"test": 1.5}, "command": "a"}) == [
        "  - pairs.test: is a number, expected an integer",
        "  - command: is a string, expected a list",
    ]


def test_fields_of_a_protocol_key():
    assert [field.name for field in dataclasses.fields(records.ProtocolKey)] == [
        *("data_set", "split", "split_rule", "blur_variant", "resolution", "resize_filter", "number_of_images")
    ]
