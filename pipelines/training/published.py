"""Published checkpoints: files that others wrote, read safely and kept as run folders of ours.

A family's checkpoint.py says which files there are and what their entries are called; opening
them, and writing what was found so that every verb takes it, is here.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.files import atomic_folder, sha256, write_json, write_text
from pipelines.training.checkpoint import checkpoints_dir, write_weights
from pipelines.training.run_folder import CONFIG_NAME, RUN_NAME, VERSION

SUFFIXES = (".pth", ".pth.tar", ".pt", ".ckpt", ".tar")
"""How published weights end, likeliest first."""

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class ImportedRun:
    """A run folder to be written from published weights.

    request: content of config.yaml.  states: network -> its state dict, in our names.
    sources: the files it comes from.  frozen: name -> what it is built on (run_folder.py).
    """

    family: str
    stage: str
    request: Mapping[str, Any]
    states: Mapping[str, State]
    sources: Sequence[Path] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    frozen: Mapping[str, ImportedRun] = field(default_factory=dict)


def write_run(run_dir: Path, run: ImportedRun) -> None:
    """Write a run folder with one checkpoint, whole or not at all.

    Raises UserError when the folder is there already.
    """
    if run_dir.exists():
        raise UserError(
            f"the run '{run_dir.name}' is there already",
            {
                "looked in": run_dir,
                "to keep it": "give another --name",
                "to replace it": f"first: i2v runs rm {run_dir.name}",
            },
            EXIT_USAGE,
        )
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(run_dir) as building:
        _write(building, run)


def _write(folder: Path, run: ImportedRun) -> None:
    write_text(folder / CONFIG_NAME, yaml.safe_dump(dict(run.request), sort_keys=False))
    record = {"family": run.family, "stage": run.stage, "version": VERSION, "status": "done"}
    write_json(folder / RUN_NAME, record)
    tensors = {
        f"{name}.{key}": value.detach().contiguous()
        for name, state in run.states.items()
        for key, value in state.items()
    }
    sources = [{"path": str(path), "sha256": sha256(path)} for path in run.sources]
    about = {"imported": sources, "validation": {}, **run.about}
    write_weights(checkpoints_dir(folder) / "step-00000000", tensors, about=about)
    for name, earlier in run.frozen.items():
        (folder / "frozen" / name).mkdir(parents=True)
        _write(folder / "frozen" / name, earlier)


def read_checkpoint(path: Path, *, trust: bool) -> Any:
    """The content of a published file; tensors are mapped, not read, where the format allows it.

    trust: also unpickle what is more than tensors and plain values. That runs code out of the file.
    Raises UserError when the file is damaged, or needs trust and has none.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust, mmap=_can_map(path))
    except pickle.UnpicklingError as error:
        if trust or "weights_only" not in str(error).lower():
            raise _damaged(path, error) from error
        raise UserError(
            f"the file '{path.name}' holds more than weights",
            {
                "file": path,
                "reason": _first_line(error),
                "why not": "reading it would run what its author put in",
                "to fix": "add --trust-checkpoint if you trust where it comes from",
            },
            EXIT_USAGE,
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def state_of(content: Any, path: Path) -> State:
    """The state dict in a published file's content: bare, or beside epoch and optimizer."""
    found = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        raise UserError(
            f"the file '{path.name}' holds no weights",
            {"file": path, "to fix": "download it again, or give another folder"},
            EXIT_NO_DATA,
        )
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def read_settings(path: Path) -> dict[str, Any]:
    """A published YAML file: plain values, and the tuples that Python's own dumper writes."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"the settings '{path.name}' cannot be read",
            {"file": path, "reason": _first_line(error), "to fix": "download the file again"},
            EXIT_NO_DATA,
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"the settings '{path.name}' hold no sections",
            {"file": path, "to fix": "download the file again"},
            EXIT_NO_DATA,
        )
    return content


def find_weights(folder: Path, stems: Sequence[str]) -> Path | None:
    """The first file in a folder of one of these names, any spelling of case, any known suffix."""
    there = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    names = (f"{stem}{suffix}".lower() for stem in stems for suffix in ("", *SUFFIXES))
    return next((there[name] for name in names if name in there), None)


def check_fit(network: nn.Module, state: State, path: Path) -> None:
    """Raise UserError unless a state dict has just the entries, and shapes, of a network."""
    wanted = network.state_dict()
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    reason = f"it has no {missing[0]} ({len(missing)} missing)" if missing else ""
    if not missing and unknown:
        reason = f"its {unknown[0]} is unknown ({len(unknown)} unknown)"
    for name in () if reason else wanted:
        if wanted[name].shape != state[name].shape:
            reason = f"{name} is {list(state[name].shape)}, not {list(wanted[name].shape)}"
            break
    if reason:
        raise UserError(
            f"the weights in '{path.name}' do not fit the settings beside them",
            {"file": path, "reason": reason, "to fix": "give each model its own settings file"},
        )


class _PlainLoader(yaml.SafeLoader):
    """Like safe_load, and python/tuple as a list; any other Python object stays an error."""


def _sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node)


_PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)


def _can_map(path: Path) -> bool:
    """Whether a file is of the zip form, which can be mapped."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"the file '{path.name}' cannot be read as a checkpoint",
        {"file": path, "reason": _first_line(error), "to fix": "download it again"},
        EXIT_NO_DATA,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
