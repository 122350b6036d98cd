"""The tables of docs/recipes.md, from the records of runs."""

import json

import numpy as np
import pytest
import recipe_table
from recipe_table import DOCS

from tests.helpers.report_records import image_record, write_evaluation


def run_tool(*arguments):
    recipe_table.main([str(argument) for argument in arguments])


def make_run(folder, seed, gains):
    """Write a run's records; `gains` by split and sequence."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"seed": seed, "data": {"batch_size": 8}}))
    facts = {"network": "nafnet", "parameters": 1234, "devices": "1 x cpu (cpu)", "code_version": "0.1.0"}
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "metrics.jsonl").write_text('{"step": 10, "wall_s": 1.5}\n{"step": 2000, "wall_s": 600.4}\n')
    for split, sequences in gains.items():
        images = [
            image_record(sequence, str(i), 25.0, 25.0 + gain)
            for sequence, values in sequences.items()
            for i, gain in enumerate(values)
        ]
        write_evaluation(folder, images, {}, split=split)
    return folder


@pytest.fixture
def paths(tmp_path):
    document = tmp_path / "recipes.md"
    document.write_text("Before.\n<!-- table: Data -->\nold\n<!-- end -->\nAfter.\n")
    return tmp_path / "recipes.json", document


def test_a_row_averages_images_then_seeds_then_sequences(tmp_path, paths):
    records, document = paths
    a = make_run(tmp_path / "a", 0, {"validation": {"v": [0.1, 0.3]}, "test": {"s": [0.4], "t": [0.0, 0.2]}})
    b = make_run(tmp_path / "b", 1, {"validation": {"v": [0.3, 0.5]}, "test": {"s": [0.6], "t": [0.2, 0.4]}})
    add = ("--records", records, "add", a, b, "--table", "Data", "--recipe", "windows", "--splits")
    run_tool(*add, "validation", "test")
    run_tool(*add, "validation", "test")  # runs that were added before are replaced
    run_tool("--records", records, "write", "--document", document)
    before, heading, head, _, after = document.read_text().split("\n", 4)
    assert (before, heading) == ("Before.", "<!-- table: Data -->")
    assert head.endswith("| seeds | validation 256 | test 256 | all unseen 256 |")
    cells = [cell.strip() for cell in after.split("\n")[0].strip("|").split("|")]
    # v: (0.2 + 0.4) / 2; s: 0.5; t: (0.1 + 0.3) / 2. Student's t over two: 0.35 +- 12.706 x 0.15.
    assert cells[:7] == ["windows", "nafnet", "1,234", "2,000 x 8", "600", "0, 1", "+0.30"]
    assert cells[7] == "+0.35 [-1.56, +2.26] (+0.50, +0.20)"
    # Over three: 1/3, standard error sqrt(0.0233 / 3) = 0.0882, t = 4.303.
    assert cells[8] == "+0.33 [-0.05, +0.71] (+0.50, +0.20, +0.30)"
    assert after.endswith("<!-- end -->\nAfter.\n")


def test_only_the_given_splits_are_added(tmp_path, paths):
    run = make_run(tmp_path / "a", 0, {"validation": {"v": [0.1]}, "test": {"s": [9.0]}})
    run_tool("--records", paths[0], "add", run, "--table", "Data", "--recipe", "plain")
    assert "test" not in json.dumps(json.loads(paths[0].read_text())[0]["gains"])


def test_unfinished_runs_and_tables_without_markers_are_refused(tmp_path, paths):
    records, document = paths
    run = make_run(tmp_path / "a", 0, {})
    add = ("--records", records, "add", run, "--table", "Elsewhere", "--recipe", "plain")
    with pytest.raises(SystemExit, match="no scores of validation"):
        run_tool(*add)
    write_evaluation(run, [image_record("v", "1", 25.0, 25.5)], {}, split="validation")
    run_tool(*add)
    with pytest.raises(SystemExit, match=r"markers for the tables \['Data'\], but the records have \['Elsewhere'\]"):
        run_tool("--records", records, "write", "--document", document)
    assert "old" in document.read_text()


def test_the_document_matches_its_records(tmp_path):
    copy = tmp_path / "recipes.md"
    copy.write_text((DOCS / "recipes.md").read_text())
    run_tool("write", "--document", copy)
    assert copy.read_text() == (DOCS / "recipes.md").read_text()
    assert np.all([record["gains"] for record in json.loads((DOCS / "recipes.json").read_text())])
