"""Which of two runs is better, in one line."""

from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.report.grouping import Entry, compare
from jaxdeblur.report.loading import Evaluation, Run, read_runs
from jaxdeblur.report.sentences import METHODS, differences, say_pair, say_resolution


def compare_runs(folders: Sequence[Path], protocol: str = "") -> str:
    """Say in one line which of two runs has the higher PSNR, by how much, and whether that is more than chance.

    Args:
        folders: of the two runs.
        protocol: `<split>-<resolution>`; "": the one of the test split that both have.

    Raises:
        InputError: a record is missing, there is no one protocol to compare by, or the runs were scored on different
            protocols or images; names the difference.
    """
    runs = read_runs(folders)
    name = protocol or _only_common(runs)
    one, other = (Entry(run, _find(run, name), []) for run in runs)
    if found := differences(one.evaluation.protocol, other.evaluation.protocol):
        heading = f"{runs[0].name} and {runs[1].name} cannot be compared, since their {name} differ in protocol:"
        raise InputError(list_problems(heading, found, "Evaluate both on the same images in the same way."))
    pair = compare(one, other)
    where = one.evaluation.protocol
    resolution, method = say_resolution(where), METHODS[pair.gain["method"]]
    return f"{say_pair(pair)} ({where['split']} images {resolution}; interval: {method})"


def _only_common(runs: Sequence[Run]) -> str:
    names = [[evaluation.name for evaluation in run.evaluations] for run in runs]
    common = [name for name in names[0] if name in names[1]]
    tests = [name for name in common if name.startswith("test-")]
    if len(tests) == 1:
        return tests[0]
    listed = "; ".join(f"{run.name} has {', '.join(own)}" for run, own in zip(runs, names, strict=True))
    if not common:
        remedy = "Evaluate both on the same images in the same way."
        raise InputError(f"{runs[0].name} and {runs[1].name} were scored on different protocols: {listed}. {remedy}")
    what = "several evaluations of the test split" if tests else "no evaluation of the test split"
    raise InputError(f"--protocol: both runs have {what} ({listed}). Choose one of {', '.join(common)}.")


def _find(run: Run, name: str) -> Evaluation:
    for evaluation in run.evaluations:
        if evaluation.name == name:
            return evaluation
    found = ", ".join(evaluation.name for evaluation in run.evaluations)
    raise InputError(f"--protocol: {run.folder} has no eval/{name}.json; found {found}.")
