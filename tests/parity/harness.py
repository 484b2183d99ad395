"""Reads parity cases, fills their networks, and compares outputs.

A case is `<family>/<name>.json`, which describes it, and `<name>.npz`, which holds the outputs of
the published implementation (and inputs that no formula makes). What an adapter needs of it:

    case.config                   settings of the networks and of the call
    case.state("decoder.")        state dict with the published names, here the part with that
                                  prefix, without it; without an argument: everything
    case.networks[i]              the same two, for a case that lists several networks
    case.inputs["frames"]         every input by name, generated or stored
    case.wanted                   names of the outputs to return, such as "grad:conv1.weight"
    case.document                 the JSON as it is, for keys of one family only

`built(make, state)` makes a network and gives it such a state without initialising it first, which
for large networks takes longer than everything else.

An adapter returns whole outputs; thinning, shapes and tolerances are dealt with here. An output
agrees when its largest absolute difference, over the largest absolute value of the reference, is
within its tolerance (an output that is zero everywhere: the difference itself).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tests.parity import fill

Result = Mapping[str, Tensor | np.ndarray | float]
Adapter = Callable[["Case"], Result]
Index = tuple[Any, ...] | None
_Network = TypeVar("_Network", bound=nn.Module)

_FORWARD, _BACKWARD = "forward_shuffle_idx", "backward_shuffle_idx"


class CaseError(Exception):
    """A case that cannot be read, or a result that lacks what the case asks for."""


@dataclass(frozen=True)
class Comparison:
    """One output against its reference."""

    output: str
    error: float  # largest absolute difference over the largest absolute reference
    tolerance: float

    @property
    def ratio(self) -> float:
        """The error as a share of the tolerance: 1 is the limit."""
        if self.error == 0:
            return 0.0
        return self.error / self.tolerance if self.tolerance > 0 else float("inf")

    @property
    def agrees(self) -> bool:
        """Whether these are the same numbers."""
        return self.ratio <= 1.0

    def __str__(self) -> str:
        return f"{self.output}: error {self.error:.3g}, tolerance {self.tolerance:.3g}"


class Weights:
    """The generated state dict of one network, or of several with a prefix each.

    Steps, in this order: fill, permutations, overrides, scaled, spectral_refresh. `description` has
    these keys; `defaults` is asked for those it lacks.
    """

    def __init__(self, description: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        merged = {**defaults, **description}
        self.name = str(merged.get("network", ""))
        self.config: dict[str, Any] = merged.get("config") or {}
        self._tag = merged["tag"]
        self._entries: list[tuple[str, list[int], str]] = merged.get("state") or []
        self._permutations = set(merged.get("permutations") or ())
        self._overrides = merged.get("overrides") or {}
        self._scaled = merged.get("scaled") or {}
        self._refreshes = int(merged.get("spectral_refresh") or 0)
        self._dtype = getattr(torch, merged.get("dtype", "float32"))

    def state(self, prefix: str = "") -> dict[str, Tensor]:
        """Entries whose published name starts with `prefix`, keyed by the rest of the name."""
        arrays = {
            name: self._value(name, tuple(shape), dtype)
            for name, shape, dtype in self._entries
            if name.startswith(prefix)
        }
        if not arrays:
            raise CaseError(f"no entry of the state starts with '{prefix}'")
        for name in arrays:
            if name.endswith(_BACKWARD):
                partner = name.removesuffix(_BACKWARD) + _FORWARD
                arrays[name] = np.argsort(arrays[partner], kind="stable")
        for _ in range(self._refreshes):
            _refresh_spectral_norm(arrays)
        return {name.removeprefix(prefix): self._tensor(value) for name, value in arrays.items()}

    def _value(self, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        if name in self._permutations or name.endswith(_FORWARD):
            value = fill.permutation(self._tag, name, shape[0])
        elif name in self._overrides:
            value = _override(self._overrides[name], shape, dtype)
        else:
            value = fill.weight(self._tag, name, shape, dtype)
        if name in self._scaled:
            value = (value * self._scaled[name]).astype(value.dtype)
        return value

    def _tensor(self, value: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(value))
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


class Case:
    """One parity case; see the head of this file."""

    def __init__(self, path: Path) -> None:
        """path: the JSON; the npz of the same name lies beside it."""
        self.path = path
        self.document = _read_document(path)
        try:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
                self._stored = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise CaseError(f"{path.with_suffix('.npz')} cannot be read: {error}") from error
        self._outputs = _by_name(self.document["outputs"])
        missing = sorted(set(self._outputs) - set(self._stored))
        if missing:
            raise CaseError(f"{path.with_suffix('.npz')} lacks the outputs {', '.join(missing)}")
        self._weights = Weights(self.document, {})
        self.config = self._weights.config
        self.state = self._weights.state

    @property
    def tag(self) -> str:
        """The string that all of the case's numbers are made from."""
        return self.document["tag"]

    @property
    def dtype(self) -> torch.dtype:
        """Precision in which to compute."""
        return getattr(torch, self.document.get("dtype", "float32"))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the outputs that an adapter must return."""
        return tuple(self._outputs)

    @cached_property
    def networks(self) -> tuple[Weights, ...]:
        """The networks of a case that lists several, each with its own `config` and `state`."""
        shared = {**self.document, "state": [], "config": {}}
        return tuple(Weights(each, shared) for each in self.document.get("networks", ()))

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """Every input by name; floats in the case's precision."""
        values = {}
        for entry in self.document.get("inputs") or ():
            name = entry[0]
            if entry[-1] == "stored":
                tensor = torch.from_numpy(self._stored_input(name).copy())
            else:
                tensor = torch.from_numpy(fill.inputs(self.tag, name, tuple(entry[1]), *entry[2:]))
            values[name] = tensor.to(self.dtype) if tensor.is_floating_point() else tensor
        return values

    def _stored_input(self, name: str) -> np.ndarray:
        for stored_name in (f"input_{name}", f"input.{name}", name):
            if stored_name in self._stored:
                return self._stored[stored_name]
        raise CaseError(f"input '{name}' is marked as stored but is not in the npz")

    def compare(self, results: Result) -> list[Comparison]:
        """Each wanted output against its reference; raises CaseError when one is not there."""
        missing = [name for name in self.wanted if name not in results]
        if missing:
            raise CaseError(f"the adapter returned no {', '.join(missing)}")
        return [self._compare(name, results[name]) for name in self.wanted]

    def _compare(self, name: str, result: Tensor | np.ndarray | float) -> Comparison:
        facts, reference = self._outputs[name], self._stored[name].astype(np.float64)
        if isinstance(result, Tensor):
            result = result.detach().cpu().numpy()
        value = np.asarray(result).astype(np.float64)
        full_shape = facts.get("full_shape")
        if full_shape is not None and value.size != 1 and list(value.shape) != list(full_shape):
            raise CaseError(f"'{name}' has shape {value.shape}, the case says {full_shape}")
        index = parse_slice(facts.get("slice"))
        if index is not None:
            value = value[index]
        if value.size == reference.size == 1:
            value = value.reshape(reference.shape)
        if value.shape != reference.shape:
            raise CaseError(f"'{name}' has shape {value.shape}, the reference {reference.shape}")
        tolerance = facts.get("tolerance", self.document["tolerance"])
        return Comparison(name, relative_error(value, reference), float(tolerance))


def built(make: Callable[[], _Network], state: Mapping[str, Tensor]) -> _Network:
    """The network that `make` makes, holding exactly the entries of `state`, in eval mode.

    state: of our own names, every parameter and buffer of the network; it is not copied.
    """
    with torch.device("meta"):
        network = make()
    network.load_state_dict(dict(state), assign=True)
    return network.eval()


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute difference over the largest absolute reference; inf when NaNs disagree."""
    finite = np.isfinite(reference)
    if not np.array_equal(value[~finite], reference[~finite], equal_nan=True):
        return float("inf")
    if not np.isfinite(value[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = np.abs(reference[finite]).max()
    return float(np.abs(value[finite] - reference[finite]).max() / (scale or 1.0))


def parse_slice(text: str | list[Any] | None) -> Index:
    """The index that a stored output was thinned with; None: not thinned.

    Written as "[:, ::3, 1]", the same without brackets, with index lists ("[:, [0, 4], ...]"), or
    as a list with one entry per axis: None, or the arguments of slice().
    """
    if text is None:
        return None
    if isinstance(text, str):
        body = text.strip()
        if body.startswith("["):
            body = body[1:-1]
        node = ast.parse(f"x[{body}]", mode="eval").body
        assert isinstance(node, ast.Subscript)
        axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return tuple(_axis(axis) for axis in axes)
    return tuple(slice(*axis) if isinstance(axis, list) else slice(axis) for axis in text)


def _axis(node: ast.expr) -> Any:
    if not isinstance(node, ast.Slice):
        return ast.literal_eval(node)
    parts = (node.lower, node.upper, node.step)
    return slice(*(None if part is None else ast.literal_eval(part) for part in parts))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path} cannot be read: {error}") from error
    lacking = [key for key in ("tag", "outputs", "tolerance") if key not in document]
    if lacking:
        raise CaseError(f"{path} is not a parity case: it has no {', '.join(lacking)}")
    return document


def _by_name(outputs: Mapping[str, Any] | list[Any]) -> dict[str, dict[str, Any]]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return {entry["name"]: entry for entry in outputs}


def _override(value: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A number fills the entry; as many numbers as it has are its values; fewer are broadcast."""
    array = np.asarray(value, dtype=dtype)
    if array.size == prod(shape):
        return array.reshape(shape)
    return np.broadcast_to(array, shape).copy()


def _refresh_spectral_norm(arrays: dict[str, np.ndarray]) -> None:
    """One power iteration for every triple weight_orig, weight_u, weight_v, in float64."""
    for name in [name for name in arrays if name.endswith("weight_orig")]:
        stem = name.removesuffix("weight_orig")
        matrix = arrays[name].reshape(arrays[name].shape[0], -1).astype(np.float64)
        right = matrix.T @ arrays[stem + "weight_u"].astype(np.float64)
        right /= np.linalg.norm(right)
        left = matrix @ right
        left /= np.linalg.norm(left)
        arrays[stem + "weight_u"] = left.astype(np.float32)
        arrays[stem + "weight_v"] = right.astype(np.float32)


def find_cases(folder: Path, *, only_supported: bool) -> list[tuple[str, Path]]:
    """(family, JSON path) of every case below a folder, sorted.

    only_supported: leave out families for which there is no module of adapters.
    """
    cases = [(family_of(path, folder), path) for path in sorted(folder.rglob("*.json"))]
    return [case for case in cases if not only_supported or has_adapters(case[0])]


def num_weights(path: Path) -> int:
    """How many numbers a case's networks have, to tell the heavy cases."""
    try:
        document = _read_document(path)
    except CaseError:
        return 0
    states = [document.get("state") or ()]
    states += [network.get("state") or () for network in document.get("networks", ())]
    return sum(prod(shape) for state in states for _, shape, _ in state)


def family_of(path: Path, folder: Path) -> str:
    """The family of a case: the folder it lies in, or else the first word of its tag."""
    names = [path.parent.name] if path.parent != folder else []
    if not names or not has_adapters(names[0]):
        try:
            names.append(_read_document(path)["tag"].replace("-", "/").split("/")[0])
        except CaseError:
            names.append(path.parent.name)
    return next((name for name in names if has_adapters(name)), names[0])


def has_adapters(family: str) -> bool:
    """Whether this project compares cases of that family."""
    if not family.isidentifier():
        return False
    return importlib.util.find_spec(f"tests.parity.adapters.{family}") is not None


def adapter_for(family: str, case: Case) -> Adapter:
    """The function that computes a case's outputs; CaseError when its computation is not known."""
    if not has_adapters(family):
        raise CaseError(f"no adapters for the family '{family}' (tests/parity/adapters)")
    module: ModuleType = importlib.import_module(f"tests.parity.adapters.{family}")
    computation = module.key(case.document)
    if computation not in module.ADAPTERS:
        known = ", ".join(sorted(module.ADAPTERS))
        raise CaseError(f"family '{family}' has no adapter for '{computation}' (it has {known})")
    return module.ADAPTERS[computation]
