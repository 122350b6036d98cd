"""Compares two runs in one line."""

from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.report.grouping import Entry, compare
from jaxdeblur.report.loading import Evaluation, Run, read_runs
from jaxdeblur.report.sentences import METHODS, describe_pair, describe_resolution, protocol_differences

_SAME_IMAGES = "Evaluate both on the same images in the same way."


def compare_runs(folders: Sequence[Path], protocol: str = "") -> str:
    """Return one line on which of two runs has the higher PSNR, by how much, and whether that is significant.

    Args:
        folders: of the two runs.
        protocol: `<split>-<resolution>`; "": the only one of the test split that both have.

    Raises:
        InputError: a record is missing or invalid, the protocol is missing or ambiguous (code
            "protocol-not-in-common", "protocol-ambiguous" or "protocol-unknown"), or the runs were not scored on the
            same images by the same protocol ("protocols-differ", "images-differ").
    """
    runs = read_runs(folders)
    name = protocol or _only_common(runs)
    one, other = (Entry(run, _find(run, name), []) for run in runs)
    if differences := protocol_differences(one.evaluation.key, other.evaluation.key):
        heading = f"{runs[0].name} and {runs[1].name} cannot be compared, since their {name} differ in protocol:"
        raise InputError(list_problems(heading, differences, _SAME_IMAGES), code="protocols-differ")
    pair, common = compare(one, other), one.evaluation.protocol
    resolution, method = describe_resolution(common), METHODS[pair.gain.method]
    return f"{describe_pair(pair)} ({common.split} images {resolution}; interval: {method})"


def _only_common(runs: Sequence[Run]) -> str:
    """Return the only evaluation of the test split that both runs have."""
    names = [[evaluation.name for evaluation in run.evaluations] for run in runs]
    common = [name for name in names[0] if name in names[1]]
    tests = [name for name in common if name.startswith("test-")]
    if len(tests) == 1:
        return tests[0]
    available = "; ".join(f"{run.name} has {', '.join(run_names)}" for run, run_names in zip(runs, names, strict=True))
    if not common:
        message = f"{runs[0].name} and {runs[1].name} were scored by different protocols: {available}. {_SAME_IMAGES}"
        raise InputError(message, code="protocol-not-in-common")
    problem = "several evaluations of the test split" if tests else "no evaluation of the test split"
    message = f"--protocol: both runs have {problem} ({available}). Choose one of {', '.join(common)}."
    raise InputError(message, code="protocol-ambiguous")


def _find(run: Run, name: str) -> Evaluation:
    for evaluation in run.evaluations:
        if evaluation.name == name:
            return evaluation
    available = ", ".join(evaluation.name for evaluation in run.evaluations)
    message = f"--protocol: {run.folder} has no eval/{name}.json, only {available}."
    raise InputError(message, code="protocol-unknown")
