"""behavior: what is done to poses and pictures before a network sees them."""

from __future__ import annotations

import numpy as np

from pipelines.behavior.poses import PoseScale
from pipelines.clips.rules import Items, PoseClips
from pipelines.datasets.h36m_camera import project
from pipelines.shape_pose.part_crops import crop_parts, part_transforms
from pipelines.shape_pose.skeletons import SKELETONS
from pipelines.shape_pose.stick_figure import stick_figure
from tests.parity.harness import Adapter, Case, CaseError, Result


def _projection(case: Case) -> Result:
    given = {name: value.numpy() for name, value in case.inputs.items()}
    camera, pixels = project(given["world"], given["extrinsics"], given["intrinsics"])
    return {"camera": camera, "pixels": pixels}


def _clip_ids(case: Case) -> Result:
    clips = [
        _clip(start, steps, lag, first, last)
        for start, steps, lag, first, last in case.config["queries"]
    ]
    longest = max(len(clip) for clip in clips)
    padded = [np.pad(clip, (0, longest - len(clip)), constant_values=-1) for clip in clips]
    return {"ids": np.stack(padded)}


def _clip(start: int, steps: int, lag: int, first: int, last: int) -> np.ndarray:
    """Numbers of the frames of a clip of steps + 1 frames; its video has frames first to last."""
    items = Items(np.array([0]), np.array([start - first]))
    rule, lengths = PoseClips(steps + 1, lag), np.array([last - first + 1])
    placed = rule.place(items, lengths, np.random.default_rng(0))
    return first + placed.starts[0] + placed.steps[0] * np.arange(steps + 1)


def _normalization(case: Case) -> Result:
    poses = case.inputs["poses"].numpy()
    scale = PoseScale.of(poses)
    normalized = scale.normalize(poses)
    return {
        "mean": scale.mean,
        "std": scale.std,
        "kept": scale.kept,
        "normalized": normalized,
        "restored": scale.restore(normalized),
    }


def _stickman(case: Case) -> Result:
    skeleton = SKELETONS[case.config["joint_model"]]
    figures = [
        stick_figure(joints, case.config["size"], skeleton=skeleton)
        for joints in case.inputs["keypoints"].numpy()
    ]
    return {"image": np.stack(figures)}


def _part_crops(case: Case) -> Result:
    settings = case.config
    size_px, part_px = settings["size"], settings["part"]
    skeleton = SKELETONS[settings["joint_model"]]
    people = [
        part_transforms(joints, skeleton=skeleton, size_px=size_px, part_px=part_px)
        for joints in case.inputs["keypoints"].numpy()
    ]
    if settings["output"] == "crops":
        image = _waves(size_px)
        return {"crops": np.stack([crop_parts(image, each, part_px) for each in people])}
    if settings["output"] != "transforms":
        raise CaseError(f"no output '{settings['output']}' of part crops")
    none = np.zeros((3, 3))
    matrices = np.stack([[none if each is None else each for each in one] for one in people])
    return {
        "affine": matrices[:, :, :2],
        "perspective": matrices[:, :, 2, :2],
        "present": np.array([[each is not None for each in one] for one in people]),
    }


def _waves(size_px: int) -> np.ndarray:
    """The picture that the cases cut parts from: a wave in each channel."""
    y, x, channel = np.mgrid[:size_px, :size_px, :3]
    across, down = np.array([0.05, 0.03, 0.02]), np.array([0.02, -0.04, 0.05])
    waves = np.sin(across[channel] * x + down[channel] * y)
    return np.floor(127.5 * (1 + waves)).astype(np.uint8)


DATA_ADAPTERS: dict[str, Adapter] = {
    "projection": _projection,
    "clip_ids": _clip_ids,
    "normalization": _normalization,
    "stickman": _stickman,
    "part_crops": _part_crops,
}
