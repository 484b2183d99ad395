"""The pretrained TensorFlow modules as another backend of `i2v sample inbetween` (completion, G.7).

Runs in the environment `fvd`. Such a module takes 16 pairs of images at once, no more and no fewer.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.inbetween.config import NUM_INNER_FRAMES, HubRequest
from pipelines.io.two_images import read_ends, write_videos

BATCH, SIZE_PX = 16, 64
SIGNATURE = "default"
PUBLISHED = {"bair": "tweening_conv3d_bair", "kth": "tweening_conv3d_kth"}
"""Name for --module -> folder in the download of weights/inbetween-<name>."""

Fill = Callable[[np.ndarray], np.ndarray]
"""Pairs of images, float32 N 2 64 64 3 in 0..255, to the frames between them, N 14 64 64 3."""


def sample(request: HubRequest, work: Work) -> dict[str, Any]:
    """Write `num` videos between two images: mp4, gif, grids and meta.json."""
    folder = module_dir(request)
    ends = read_ends(
        request.start, request.end, size_px=SIZE_PX, is_grey=request.module == "kth", work=work
    )
    fill = load(folder, seed=request.seed)
    pair = np.stack([ends.start, ends.end]).astype(np.float32)
    inner = fill(np.repeat(pair[None], request.num, axis=0))
    work.progress("sample", request.num, request.num, "videos")
    if request.num > 1 and (inner == inner[:1]).all():
        work.warning("the module draws no noise: all videos are the same")
    first, last = ends.start[None], ends.end[None]
    videos = [np.concatenate([first, to_bytes(frames), last]) for frames in inner]
    meta = _meta(request, folder)
    return write_videos(request.out_dir, ends, videos, fps=request.fps, meta=meta, work=work)


def module_dir(request: HubRequest) -> Path:
    """The folder of the saved model. UserError when it is not there."""
    if request.module in PUBLISHED:
        name = f"inbetween-{request.module}"
        root = request.data_root / "weights" / name
        remedy = {"run first": f"i2v download weights/{name}"}
    else:
        root = Path(request.module).expanduser().absolute()
        remedy = {"to fix": "give bair, kth, or a folder that holds saved_model.pb"}
    found = sorted(root.glob("**/saved_model.pb")) if root.is_dir() else []
    if not found:
        raise UserError(
            f"no TensorFlow module '{request.module}'", {"looked in": root, **remedy}, EXIT_NO_DATA
        )
    return found[0].parent


def load(folder: Path, *, seed: int = 0) -> Fill:
    """A module as a function of any number of pairs.

    Raises UserError when it lacks the signature of the published ones.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    import tensorflow_hub as hub

    tf.random.set_seed(seed)
    try:
        module = hub.load(str(folder))
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            "the TensorFlow module cannot be loaded",
            {"folder": folder, "reason": error, "to fix": "download it again"},
        ) from error
    signature = _checked_signature(module, folder)
    (argument,) = signature.structured_input_signature[1]

    def run(pairs: np.ndarray) -> np.ndarray:
        return np.asarray(signature(**{argument: tf.constant(pairs)})[SIGNATURE])

    return lambda pairs: in_batches(run, pairs)


def in_batches(run: Fill, pairs: np.ndarray) -> np.ndarray:
    """Run on 16 pairs at a time; the last batch is filled up with its last pair."""
    parts = []
    for first in range(0, len(pairs), BATCH):
        part = pairs[first : first + BATCH]
        missing = BATCH - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        parts.append(run(filled)[: len(part)])
    return np.concatenate(parts)


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """What a module gives, about 0..255, as stored frames."""
    return frames.round().clip(0, 255).astype(np.uint8)


def _checked_signature(module: Any, folder: Path) -> Any:
    """The signature `default`, when its input and output are those of the published modules."""
    signatures = dict(getattr(module, "signatures", {}))
    if SIGNATURE not in signatures:
        there = ", ".join(sorted(signatures)) or "none"
        raise _no_such_signature(folder, f"no signature '{SIGNATURE}'", there)
    signature = signatures[SIGNATURE]
    inputs = signature.structured_input_signature[1].values()
    outputs = signature.structured_outputs
    wanted = [BATCH, 2, SIZE_PX, SIZE_PX, 3]
    shapes = [each.shape.as_list() for each in inputs]
    if len(shapes) != 1 or not _fits(shapes[0], wanted):
        raise _no_such_signature(folder, "another input", f"{shapes}, not {wanted}")
    made = [BATCH, NUM_INNER_FRAMES, SIZE_PX, SIZE_PX, 3]
    if SIGNATURE not in outputs or not _fits(outputs[SIGNATURE].shape.as_list(), made):
        found = {name: each.shape.as_list() for name, each in outputs.items()}
        raise _no_such_signature(folder, "another output", f"{found}, not '{SIGNATURE}' {made}")
    return signature


def _fits(shape: list[int | None], wanted: list[int]) -> bool:
    return len(shape) == len(wanted) and all(
        size in (None, each) for size, each in zip(shape, wanted, strict=True)
    )


def _no_such_signature(folder: Path, what: str, there: str) -> UserError:
    return UserError(
        f"the TensorFlow module has {what}",
        {
            "folder": folder,
            "there is": there,
            "to fix": "give a module like tweening_conv3d_bair: two 64 x 64 images to 14 frames",
        },
        EXIT_USAGE,
    )


def _meta(request: HubRequest, folder: Path) -> dict[str, Any]:
    import tensorflow as tf

    words = ["i2v", "sample", "inbetween", "--backend", "tfhub", "--module", request.module]
    words += ["--start", str(request.start), "--end", str(request.end)]
    words += ["--num", str(request.num), "--seed", str(request.seed), "--out", str(request.out_dir)]
    return {
        "family": "inbetween",
        "backend": "tfhub",
        "module": str(folder),
        "frames": request.frames,
        "size_px": SIZE_PX,
        "seed": request.seed,
        "versions": {"tensorflow": tf.__version__, "numpy": np.__version__},
        "command": shlex.join(words),
    }
