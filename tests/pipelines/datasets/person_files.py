"""Collections of people like DeepFashion and Market-1501, with generated people in them."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.datasets.synthetic import generate


def joints_of(count: int, body: tuple[int, ...]) -> np.ndarray:
    """Joints of images: every fifth has no hip, every image lacks its last joint."""
    joints = np.random.default_rng(7).uniform(0.05, 0.95, (count, 18, 2))
    joints[:, [number for number in range(18) if number not in body][-1]] = -1.0
    joints[4::5, body[0]] = -1.0
    return joints


def write_collection(
    folder: Path, *, body: tuple[int, ...], count: int = 12, size_px: int = 64
) -> dict[str, Any]:
    """Write images and index.p; returns what the index holds. Every third image is for testing."""
    names = [f"img/{'ab'[number % 2]}/person {number:03d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        frame = generate("walker", number, size_px=size_px, num_frames=2, with_truth=False).frames[
            0
        ]
        Image.fromarray(frame).save(folder / name, quality=95)
    index = {
        "imgs": names,
        "joints": joints_of(count, body),
        "train": [number % 3 != 0 for number in range(count)],
    }
    write_index(folder, index)
    return index


def write_index(folder: Path, index: object, protocol: int = 2) -> None:
    """Write index.p."""
    (folder / "index.p").write_bytes(pickle.dumps(index, protocol))


def write_archive(path: Path, folder: Path) -> None:
    """Pack a collection the way it is published."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(folder, path.name.removesuffix(".tar.gz"))
