"""The fomm that found a motion model's keypoints and renders them, kept inside the run folder.

<run>/frozen/fomm is a small run folder of its own, so that a trained motion model is one folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.events import EXIT_USAGE, UserError
from pipelines.fomm.sample import FAMILY
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta
from pipelines.training.run_folder import Run, freeze_weights, load_run, require_checkpoint

Warn = Callable[[str], None]


def kept_fomm(run_dir: Path, source: Path | None, *, warn: Warn) -> Path:
    """The run folder of a motion model's own fomm, copied from `source` when there is none yet.

    Raises UserError when there is neither, or when `source` is another one than the kept one.
    """
    kept = fomm_dir(run_dir)
    if not kept.is_dir():
        if source is None:
            raise UserError(
                "motion models move the keypoints of a trained fomm, and none is given",
                {"run first": "i2v train fomm", "then": "give its name with --fomm-run"},
                EXIT_USAGE,
            )
        run = load_run(source, family=FAMILY)
        freeze_weights(run, require_checkpoint(run, warn=warn), kept)
    elif source is not None and source.is_dir():
        _refuse_another(load_run(kept, family=FAMILY), load_run(source, family=FAMILY), warn)
    return kept


def fomm_dir(run_dir: Path) -> Path:
    """Where a motion model keeps its fomm."""
    return run_dir / "frozen" / "fomm"


def _refuse_another(kept: Run, given: Run, warn: Warn) -> None:
    hashes = [
        checkpoint_meta(require_checkpoint(run, warn=warn))["files"][WEIGHTS_NAME]["sha256"]
        for run in (kept, given)
    ]
    if hashes[0] != hashes[1]:
        warn(
            f"the fomm run '{given.path.name}' has other weights than the ones this run began with "
            f"({hashes[1][:12]}, {hashes[0][:12]}): it goes on with those it began with"
        )
