"""Checkpoints: everything that decides the rest of a training, whole on disk or not at all.

<run>/checkpoints/step-00001000/
  weights.safetensors   all networks, keys "<network>.<parameter>"
  state.pt              optimizers, generators, scalars, step; read with weights_only=True
  meta.json             step, size and SHA-256 of both files
The folder gets its name by one rename after all of it is on disk, so the newest folder whose files
agree with its meta.json is the newest checkpoint; there is no pointer file that could be wrong.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import atomic_folder, read_json, sha256, write_json
from pipelines.training import background
from pipelines.training.processes import is_first, num_processes

WEIGHTS_NAME, STATE_NAME, META_NAME = "weights.safetensors", "state.pt", "meta.json"

_WORTH_A_COPY = 4_000_000
"""Bytes; what is smaller is written before a copy of it would pay."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class TrainState:
    """What a training is made of at a step.

    scalars: numbers that the family keeps between steps, such as a schedule's best value.
    step: updates done so far; the sampler's position follows from it.
    differentiated_twice: modules whose gradient a loss looks at, such as critics with a gradient
    penalty; they are never compiled.  is_prepared: whether the settings' levers are applied.
    """

    modules: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    generators: Mapping[str, torch.Generator]
    scalars: dict[str, float] = field(default_factory=dict)
    step: int = 0
    differentiated_twice: Sequence[str] = ()
    is_prepared: bool = False


def save_checkpoint(
    run_dir: Path, state: TrainState, *, keep: int, about: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint, then remove all but the newest `keep` and the best; returns its folder.

    In an open run (run_folder.open_run) a large one is copied in memory and written while the
    training goes on; what finds checkpoints waits for it, and an error is raised by the next save
    or at the end of the run. Of several processes the first one writes.
    about: JSON-able facts for meta.json, such as validation results. `score`, {"metric": name,
    "value": number}, says how good it is: smaller is better.
    Raises UserError when a weight is not finite or the disk is full; older checkpoints stay.
    """
    folder = checkpoints_dir(run_dir) / f"step-{state.step:08d}"
    if not is_first():
        return folder
    about = {"num_processes": num_processes(), **(about or {})}
    tensors, rest = _named_tensors(state.modules), _rest(state)
    _refuse_non_finite(tensors, state.step)
    in_background = background.is_open(run_dir) and _num_bytes([tensors, rest]) >= _WORTH_A_COPY
    background.finish(run_dir)
    if in_background:
        copied = _copied(tensors), _copied(rest)
        background.start(run_dir, lambda: _write(run_dir, folder, *copied, keep, about))
    else:
        _write(run_dir, folder, tensors, rest, keep, about)
    return folder


def _write(
    run_dir: Path,
    folder: Path,
    tensors: dict[str, Tensor],
    rest: Mapping[str, Any],
    keep: int,
    about: Mapping[str, Any],
) -> None:
    try:
        with atomic_folder(folder) as building:
            _write_files(building, tensors, rest, about)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _explained(error, folder) from error
    # A newer folder can only be a damaged one that this training had to pass over when it resumed.
    older = [path for path in _folders(run_dir) if path.name <= folder.name]
    kept = [*older[:keep], *by_score(older)[:1]]
    _remove_all_but(kept, checkpoints_dir(run_dir))


def write_weights(folder: Path, tensors: Mapping[str, Tensor], *, about: Mapping[str, Any]) -> None:
    """Write a checkpoint without a training's state, to sample from or to start from.

    tensors: keys "<network>.<parameter>".  about: JSON-able facts for meta.json.
    Raises UserError when a weight is not finite or the disk is full.
    """
    _refuse_non_finite(tensors, 0)
    try:
        with atomic_folder(folder) as building:
            _require_space(building, sum(tensor.nbytes for tensor in tensors.values()))
            save_file(dict(tensors), building / WEIGHTS_NAME)
            _write_meta(building, (WEIGHTS_NAME,), 0, about)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _explained(error, folder) from error


def restore(checkpoint_dir: Path, state: TrainState) -> None:
    """Put a checkpoint back into networks, optimizers, generators, scalars and step, in place.

    Raises UserError when the checkpoint is damaged or was made by other networks.
    """
    require_sound(checkpoint_dir, (WEIGHTS_NAME, STATE_NAME))
    load_weights(checkpoint_dir, state.modules)
    stored = torch.load(checkpoint_dir / STATE_NAME, map_location="cpu", weights_only=True)
    for part, mine in (("optimizers", state.optimizers), ("generators", state.generators)):
        if set(stored[part]) != set(mine):
            raise _does_not_fit(checkpoint_dir, f"its {part} are {sorted(stored[part])}")
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(stored["optimizers"][name])
    for name, generator in state.generators.items():
        generator.set_state(stored["generators"][name])
    state.scalars = dict(stored["scalars"])
    state.step = stored["step"]


def load_weights(checkpoint_dir: Path, modules: Mapping[str, nn.Module]) -> None:
    """Fill networks from a checkpoint, in place; networks that are not named are not read.

    The file is mapped and copied tensor by tensor, so the weights are never in memory twice.
    Raises UserError when names or shapes do not fit.
    """
    with safe_open(checkpoint_dir / WEIGHTS_NAME, framework="pt") as stored:
        keys = set(stored.keys())
        for name, module in modules.items():
            targets = {f"{name}.{key}": tensor for key, tensor in module.state_dict().items()}
            _check_fit(checkpoint_dir, name, keys, targets)
            for key, target in targets.items():
                source = stored.get_tensor(key)
                if source.shape != target.shape:
                    shapes = f"{key} is {list(source.shape)}, not {list(target.shape)}"
                    raise _does_not_fit(checkpoint_dir, shapes)
                with torch.no_grad():
                    target.copy_(source)


def networks_in(checkpoint_dir: Path) -> set[str]:
    """The names of the networks that a checkpoint has weights of."""
    with safe_open(checkpoint_dir / WEIGHTS_NAME, framework="pt") as stored:
        keys: list[str] = stored.keys()
    return {key.partition(".")[0] for key in keys}


def find_checkpoint(
    run_dir: Path, *, files: tuple[str, ...], warn: Callable[[str], None]
) -> Path | None:
    """The newest sound checkpoint of a run; None when it has not made one yet.

    files: the files that are needed, WEIGHTS_NAME alone for sampling.
    warn: told about each damaged checkpoint that is passed over.
    Raises UserError when there are checkpoints, but all are damaged.
    """
    candidates = list_checkpoints(run_dir)
    for candidate in candidates:
        problem = damage(candidate, files)
        if problem is None:
            return candidate
        warn(f"checkpoint {candidate} is damaged ({problem}); trying the one before it")
    if candidates:
        require_sound(candidates[0], files)
    return None


def find_best_checkpoint(run_dir: Path, *, warn: Callable[[str], None]) -> Path | None:
    """The sound checkpoint of a run with the best score, without scores the newest; maybe None.

    warn: told about each damaged checkpoint that is passed over.
    Raises UserError when there are checkpoints, but all are damaged.
    """
    candidates = by_score(list_checkpoints(run_dir))
    for candidate in candidates:
        problem = damage(candidate, (WEIGHTS_NAME,))
        if problem is None:
            return candidate
        warn(f"checkpoint {candidate} is damaged ({problem}); trying the one before it")
    if candidates:
        require_sound(candidates[0], (WEIGHTS_NAME,))
    return None


def by_score(checkpoints: Sequence[Path]) -> list[Path]:
    """Checkpoints, given newest first: those with a score by it, best first, then the others.

    Scores of another metric than the newest score's do not count.
    """
    scores = {path: _score(path) for path in checkpoints}
    metric = next((score[0] for score in scores.values() if score), None)

    def place(path: Path) -> float:
        score = scores[path]
        return score[1] if score and score[0] == metric else math.inf

    return sorted(checkpoints, key=place)


def _score(checkpoint_dir: Path) -> tuple[str, float] | None:
    try:
        stored = checkpoint_meta(checkpoint_dir)["score"]
        return str(stored["metric"]), float(stored["value"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_sound(checkpoint_dir: Path, files: tuple[str, ...]) -> None:
    """Raise UserError unless a checkpoint is there and its files are as they were written."""
    problem = damage(checkpoint_dir, files)
    if problem is not None:
        raise UserError(
            f"checkpoint is damaged: {problem}",
            {
                "checkpoint": checkpoint_dir,
                "to fix": "copy the run again from where it came, or remove this folder "
                "and train again",
            },
            EXIT_NO_DATA,
        )


def damage(checkpoint_dir: Path, files: tuple[str, ...]) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        recorded = read_json(checkpoint_dir / META_NAME)["files"]
        for name in files:
            path, entry = checkpoint_dir / name, recorded[name]
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != entry["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {entry['bytes']:,}"
            if sha256(path) != entry["sha256"]:
                return f"the content of {name} has changed"
    except FileNotFoundError:
        return f"{META_NAME} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{META_NAME} cannot be read"
    return None


def checkpoint_meta(checkpoint_dir: Path) -> dict[str, Any]:
    """The content of a checkpoint's meta.json."""
    meta: dict[str, Any] = read_json(checkpoint_dir / META_NAME)
    return meta


def list_checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first, sound or not."""
    background.finish(run_dir)
    return _folders(run_dir)


def _folders(run_dir: Path) -> list[Path]:
    folder = checkpoints_dir(run_dir)
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def checkpoints_dir(run_dir: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_dir / "checkpoints"


def _rest(state: TrainState) -> dict[str, Any]:
    """What a training is made of beside its networks' weights."""
    return {
        "optimizers": {name: value.state_dict() for name, value in state.optimizers.items()},
        "generators": {name: value.get_state() for name, value in state.generators.items()},
        "scalars": dict(state.scalars),
        "step": state.step,
    }


def _write_files(
    folder: Path, tensors: dict[str, Tensor], rest: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    _require_space(folder, _num_bytes([tensors, rest]))
    save_file(tensors, folder / WEIGHTS_NAME)
    with (folder / STATE_NAME).open("wb") as stream:  # errors of our own stream keep their cause
        torch.save(rest, stream)
    _write_meta(folder, (WEIGHTS_NAME, STATE_NAME), rest["step"], about)


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        reason = f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
        raise OSError(errno.ENOSPC, reason)


def _write_meta(folder: Path, names: tuple[str, ...], step: int, about: Mapping[str, Any]) -> None:
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in names
    }
    meta = {
        "step": step,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "torch": torch.__version__,
        "files": files,
        **about,
    }
    write_json(folder / META_NAME, meta)


def _named_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def _num_bytes(tree: object) -> int:
    """Bytes of all tensors in nested dicts and lists."""
    if isinstance(tree, Tensor):
        return tree.nbytes
    if isinstance(tree, dict):
        return sum(map(_num_bytes, tree.values()))
    return sum(map(_num_bytes, tree)) if isinstance(tree, list) else 0


def _copied(tree: Any) -> Any:
    """Nested dicts and lists with copies of all tensors, on the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: _copied(each) for key, each in tree.items()}
    return [_copied(each) for each in tree] if isinstance(tree, list) else tree


def _refuse_non_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise diverged(f"weight {name} is not finite", step)


def diverged(what: str, step: int) -> UserError:
    """The error of a training whose numbers have run away."""
    return UserError(
        f"training diverged at step {step}: {what}",
        {
            "kept": "the last checkpoint before this step",
            "to fix": "lower the learning rate of this stage and run the same command again: "
            "it goes on from that checkpoint",
        },
    )


def _explained(error: Exception, folder: Path) -> Exception:
    """The same failure in words a user can act on, where we know the cause."""
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    text = str(cause)
    is_full = getattr(cause, "errno", None) in _DISK_FULL
    if not is_full and not any(os.strerror(code) in text for code in _DISK_FULL):
        return error
    return UserError(
        "no space left on the disk for a checkpoint",
        {
            "writing": folder,
            "reason": text,
            "kept": "the checkpoints before it",
            "to fix": "free some space, then run the same command again: it goes on from the "
            "last checkpoint",
        },
    )


def _check_fit(folder: Path, name: str, keys: set[str], targets: Mapping[str, Tensor]) -> None:
    missing = [key for key in targets if key not in keys]
    surplus = [key for key in keys if key.startswith(f"{name}.") and key not in targets]
    if missing:
        raise _does_not_fit(folder, f"it has no {missing[0]} ({len(missing)} missing)")
    if surplus:
        raise _does_not_fit(folder, f"its {min(surplus)} is unknown ({len(surplus)} unknown)")


def _does_not_fit(folder: Path, reason: str) -> UserError:
    return UserError(
        "checkpoint does not fit the networks of this config",
        {
            "checkpoint": folder,
            "reason": reason,
            "to fix": "use the config.yaml of the run that made it",
        },
    )


def _remove_all_but(kept: list[Path], folder: Path) -> None:
    """Remove other checkpoints and what a killed process left half-written or half-removed."""
    names = {path.name for path in kept}
    for path in sorted(folder.iterdir()):
        is_leftover = path.name.startswith(".step-")
        if path.name.startswith("step-") and path.name not in names:
            # Renamed first, so that a kill in the middle leaves no folder that looks damaged.
            path = path.rename(path.with_name(f".{path.name}.old"))
            is_leftover = True
        if is_leftover:
            shutil.rmtree(path, ignore_errors=True)
