"""Settings from many places: presets, files, key=value, options; checked, and explained when wrong.

Later layers win: defaults, preset conf/<family>/<name>.yaml, --config FILE, key=value, options.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from i2v_cli import locations
from i2v_cli.console import bullet_list, short
from i2v_cli.names import nearest, unknown
from i2v_cli.options import OVERRIDE
from pipelines.events import EXIT_USAGE, UserError

ModelType = TypeVar("ModelType", bound=BaseModel)

Given = Mapping[str, tuple[str, object]]
"""Options of a verb: dotted name of a setting -> (option, value); a value None was not given."""
Texts = Sequence[str]

MOST_PROBLEMS_SHOWN = 8


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    values: nested as in YAML.  source: the place, for messages.
    labels: dotted name of a setting -> what the user typed for it, where that says more.
    """

    values: Mapping[str, Any]
    source: str
    labels: Mapping[str, str] = field(default_factory=dict)
    is_options: bool = False

    def label(self, dotted: str) -> str:
        """How to name a setting of this layer to the user."""
        return self.labels.get(dotted) or f"{self.source}: {dotted}"


def available(family: str) -> list[str]:
    """The names of a family's presets, in alphabetical order."""
    return sorted(path.stem for path in (locations.conf_dir() / family).glob("*.yaml"))


def from_preset(family: str, name: str) -> Layer:
    """A shipped preset. UserError with the nearest name when there is none."""
    if name not in available(family):
        raise unknown(f"{family} has no preset '{name}'", name, available(family))
    return from_file(locations.conf_dir() / family / f"{name}.yaml")


def from_file(path: Path) -> Layer:
    """A YAML file of settings; the config.yaml of a run folder counts as its settings."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{short(path)}: {problem}", _like(path), EXIT_USAGE) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{short(path)}: not a YAML file", _place(error), EXIT_USAGE) from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(
            f"{short(path)}: not a file of settings",
            {"": "expected lines of key: value"},
            EXIT_USAGE,
        )
    if {"config", "run_dir"} <= values.keys() and isinstance(values["config"], dict):
        values = values["config"]
    return Layer(values, short(path))


def from_overrides(model: type[BaseModel], texts: Sequence[str]) -> Layer:
    """Arguments key=value: the key's dots descend into sections, the value is read as YAML."""
    values: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for text in texts:
        match = OVERRIDE.fullmatch(text)
        if match is None:
            raise UserError(
                f"'{text}' is not a setting",
                {"expected": "key=value, such as seed=7 or stage1.batch_size=4"},
                EXIT_USAGE,
            )
        dotted, raw = match.groups()
        values = merge(values, _nest(dotted, _value(model, dotted, raw)))
        labels[dotted] = text
    return Layer(values, "on the command line", labels)


def from_options(given: Given) -> Layer:
    """The options that were given, above everything else."""
    values: dict[str, Any] = {}
    for dotted, (_, value) in given.items():
        if value is not None:
            values = merge(values, _nest(dotted, value))
    labels = {
        dotted: f"option {option}" if option.startswith("--") else option
        for dotted, (option, _) in given.items()
    }
    return Layer(values, "options", labels, is_options=True)


def stack(
    model: type[BaseModel],
    *,
    options: Given,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
    presets_of: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> list[Layer]:
    """What one command line says, lowest layer first.

    presets_of: the folder under conf/ that holds the presets of this verb or family.
    defaults: what this program sets where nobody says anything.
    """
    layers = [Layer(defaults or {}, "defaults")]
    if preset:
        layers.append(from_preset(presets_of, preset))
    if config_file:
        layers.append(from_file(Path(config_file).expanduser()))
    return [*layers, from_overrides(model, overrides), from_options(options)]


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Both together; where both have a value, the upper one, section by section."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def resolve(model: type[ModelType], layers: Sequence[Layer], *, who: str) -> ModelType:
    """The settings of all layers, checked. UserError that names the layer and what is wrong.

    who: what lacks an option that the model does not know, such as a family's name.
    """
    for layer in layers:
        if layer.is_options:
            _refuse_unknown_options(model, layer, who)
    try:
        return model.model_validate(_merged(layers))
    except ValidationError as invalid:
        raise _explain(model, layers, invalid) from invalid


def _merged(layers: Sequence[Layer]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer.values)
    return values


def find_class(name: str) -> type[BaseModel]:
    """A config class by its registry name 'package.module:Name'; the module is a light one."""
    module, _, attribute = name.partition(":")
    found: type[BaseModel] = getattr(importlib.import_module(module), attribute)
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted names of the settings in which two trees differ, with both values."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _nest(dotted: str, value: object) -> dict[str, Any]:
    first, _, rest = dotted.partition(".")
    return {first: _nest(rest, value) if rest else value}


def _value(model: type[BaseModel], dotted: str, raw: str) -> object:
    annotation = _annotation(model, dotted.split("."))
    if _takes_text(annotation):
        return None if raw in ("null", "~") and _is_optional(annotation) else raw
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UserError(f"{dotted}={raw}", {"": "the value is not YAML"}, EXIT_USAGE) from error


def _takes_text(annotation: object) -> bool:
    """Whether a value should stay text although YAML would read 64 or on as something else."""
    if get_origin(annotation) in (Union, UnionType):
        return all(_takes_text(each) for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) is Literal:
        return all(isinstance(each, str) for each in get_args(annotation))
    return annotation is str or (isinstance(annotation, type) and issubclass(annotation, Path))


def _is_optional(annotation: object) -> bool:
    return type(None) in get_args(annotation)


def _annotation(model: type[BaseModel], parts: Sequence[str]) -> object:
    section = _section(model, parts[:-1])
    if section is None or parts[-1] not in section.model_fields:
        return None
    return section.model_fields[parts[-1]].annotation


def _section(model: type[BaseModel], parts: Sequence[str]) -> type[BaseModel] | None:
    """The model behind a dotted path, None where the path ends in something else."""
    for part in parts:
        known = model.model_fields.get(part)
        inner = known.annotation if known else None
        candidates = [inner, *get_args(inner)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model


def _all_settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        section = _section(model, [name])
        if section is None:
            yield f"{prefix}{name}"
        else:
            yield from _all_settings(section, f"{prefix}{name}.")


def _refuse_unknown_options(model: type[BaseModel], layer: Layer, who: str) -> None:
    for dotted in layer.values:
        if dotted not in model.model_fields:
            labels = layer.labels.items()
            known = [text.split()[-1] for name, text in labels if name in model.model_fields]
            raise UserError(
                f"{who} has no {layer.label(dotted)}",
                {"its options": bullet_list(known, limit=20)},
                EXIT_USAGE,
            )


def _explain(
    model: type[BaseModel], layers: Sequence[Layer], invalid: ValidationError
) -> UserError:
    problems: dict[str, object] = {}
    for error in invalid.errors(include_url=False):
        parts = [str(part) for part in error["loc"]]
        header, text = _problem(model, layers, parts, dict(error))
        problems.setdefault(header, text)
    if all(header.startswith("missing ") for header in problems):
        names = ", ".join(header.removeprefix("missing ") for header in problems)
        return UserError(f"missing {names}", exit_code=EXIT_USAGE)
    if len(problems) == 1:
        ((header, only),) = problems.items()
        return UserError(header, {"": only}, EXIT_USAGE)
    shown = dict(list(problems.items())[:MOST_PROBLEMS_SHOWN])
    if len(problems) > len(shown):
        shown[""] = f"and {len(problems) - len(shown)} more"
    return UserError(f"{len(problems)} settings are wrong", shown, EXIT_USAGE)


def _problem(
    model: type[BaseModel], layers: Sequence[Layer], parts: list[str], error: Mapping[str, Any]
) -> tuple[str, str]:
    """What to call a wrong setting, and what is wrong with it."""
    dotted = ".".join(parts)
    if not parts:
        return "the settings do not fit together", _plain(error)
    if error["type"] == "missing":
        options = [layer.labels[dotted] for layer in layers if dotted in layer.labels]
        return f"missing {options[-1] if options else dotted}", ""
    if error["type"] == "extra_forbidden":
        return _label(layers, parts), _unknown_key(model, parts)
    if error["type"] == "string_pattern_mismatch":
        return _label(layers, parts), _misfit(model, parts, error)
    return _label(layers, parts), _sentence(error)


def _label(layers: Sequence[Layer], parts: list[str]) -> str:
    """The name of a setting as the layer that set it last would say it."""
    for length in range(len(parts), 0, -1):
        dotted = ".".join(parts[:length])
        for layer in reversed(layers):
            if dotted in layer.labels and _has(layer.values, parts[:length]):
                return layer.labels[dotted]
    for layer in reversed(layers):
        if _has(layer.values, parts):
            return layer.label(".".join(parts))
    return ".".join(parts)


def _has(values: object, parts: Sequence[str]) -> bool:
    for part in parts:
        if isinstance(values, (list, tuple)) and part.isdigit():
            return int(part) < len(values)
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _unknown_key(model: type[BaseModel], parts: list[str]) -> str:
    key = parts[-1]
    section = _section(model, parts[:-1])
    here = list(section.model_fields) if section else []
    guess = nearest(key, here)
    if guess is None:
        elsewhere = [name for name in _all_settings(model) if name.split(".")[-1] == key]
        if len(elsewhere) > 1:
            return f"unknown key '{key}'; there are {bullet_list(elsewhere, limit=4)}"
        guess = elsewhere[0] if elsewhere else nearest(".".join(parts), _all_settings(model))
    if guess:
        return f"unknown key '{key}'; did you mean '{guess}'?"
    return f"unknown key '{key}'; there are {bullet_list(here, limit=20)}"


def _misfit(model: type[BaseModel], parts: list[str], error: Mapping[str, Any]) -> str:
    section = _section(model, parts[:-1])
    known = section.model_fields.get(parts[-1]) if section else None
    pattern = error["ctx"]["pattern"]
    is_choice = "|" in pattern and known is not None and known.description
    expected = known.description if known and is_choice else f"the form {pattern}"
    return f"{_quoted(error['input'])} does not fit; expected {expected}"


def _sentence(error: Mapping[str, Any]) -> str:
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    for name, phrase in _BOUNDS.items():
        if name in context and kind in _BOUND_KINDS:
            return f"must be {phrase} {context[name]:g}, not {given}"
    for start, expected in _KINDS.items():
        if kind.startswith(start):
            return f"must be {expected}, not {_quoted(given)}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        guess = nearest(str(given), choices)
        hint = f"; did you mean '{guess}'?" if guess else ""
        return f"must be {context['expected']}, not {_quoted(given)}{hint}"
    return f"{_plain(error)}, not {_quoted(given)}" if kind.startswith("string_") else _plain(error)


_BOUNDS = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "multiple_of": "a multiple of",
}
_BOUND_KINDS = (
    "greater_than_equal",
    "greater_than",
    "less_than_equal",
    "less_than",
    "multiple_of",
)
_KINDS = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list, such as [1, 2]",
    "list_type": "a list, such as [1, 2]",
    "dict_type": "a section of key: value",
    "model_": "a section of key: value",
}


def _plain(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _quoted(given: object) -> str:
    return f"'{given}'" if isinstance(given, str) else str(given)


def _like(path: Path) -> dict[str, object]:
    if not path.parent.is_dir():
        return {"to fix": "give the path of a YAML file"}
    guess = nearest(path.name, (each.name for each in path.parent.glob("*.yaml")))
    return {"did you mean": short(path.with_name(guess))} if guess else {"to fix": "check the path"}


def _place(error: Exception) -> dict[str, object]:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return {"": f"{where}{reason}"}
