"""Converts between JSON and frozen dataclasses, checking every field's type.

A field without a default must be present; unknown keys are ignored, such as those of other versions. Supported types:
`str`, `int`, `float` (an integer is accepted), `bool`, `None`, unions of these, `list[T]`, `dict[str, T]`, dataclasses
and `Any`. A field that is optional in memory but must have a value in files has `metadata=NOT_NULL`.
"""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import read_json

T = TypeVar("T")

NOT_NULL = {"not_null": True}
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
_NAMES |= {list: "a list", dict: "an object"}


def read_typed_json(kind: type[T], path: Path, *, remedy: str) -> T:
    """Return the `kind` that a JSON file contains; see `parse`.

    Raises:
        InputError: the file is missing, not JSON, or has missing or invalid fields.
    """
    return parse(kind, read_json(path), path, remedy=remedy)


def parse(kind: type[T], tree: Any, path: Path, *, remedy: str) -> T:
    """Return a `kind` from parsed JSON.

    Args:
        kind: a dataclass or `list[dataclass]`.
        tree: as `json.loads` returns it.
        path: the file it was read from, for the message.
        remedy: what the user should do about an invalid file.

    Raises:
        InputError: lists all fields that are missing or have the wrong type (code "invalid-record").
    """
    problems: list[str] = []
    value = _parse(kind, tree, "", problems)
    if problems:
        heading = f"{path}: missing or invalid fields:"
        raise InputError(list_problems(heading, problems, remedy), code="invalid-record")
    return value


def _parse(kind: Any, tree: Any, name: str, problems: list[str]) -> Any:
    """Return `tree` as a `kind`, or append what is wrong with it to `problems` under its dotted `name`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return tree
    if origin is list and isinstance(tree, list):
        return [_parse(arguments[0], item, f"{name}[{i}]", problems) for i, item in enumerate(tree)]
    if origin is dict and isinstance(tree, dict):
        return {key: _parse(arguments[1], item, f"{name}.{key}", problems) for key, item in tree.items()}
    if dataclasses.is_dataclass(kind) and isinstance(tree, dict):
        return _parse_fields(kind, tree, name, problems)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            rejected: list[str] = []
            value = _parse(option, tree, name, rejected)
            if not rejected:
                return value
    elif type(tree) is kind or (kind is float and type(tree) is int):
        return tree
    problems.append(f"{name or 'the file'}: is {_NAMES[type(tree)]}, expected {_describe(kind)}")
    return None


def _parse_fields(kind: Any, tree: dict[str, Any], name: str, problems: list[str]) -> Any:
    hints, values, number_before = typing.get_type_hints(kind), {}, len(problems)
    for field in dataclasses.fields(kind):
        field_name = f"{name}.{field.name}" if name else field.name
        if field.name in tree:
            field_kind = hints[field.name]
            if field.metadata == NOT_NULL:
                [field_kind] = [option for option in typing.get_args(field_kind) if option is not type(None)]
            values[field.name] = _parse(field_kind, tree[field.name], field_name, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{field_name}: missing")
    return kind(**values) if len(problems) == number_before else None


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_describe(option) for option in typing.get_args(kind))
    return _NAMES[dict if dataclasses.is_dataclass(kind) else typing.get_origin(kind) or kind]
