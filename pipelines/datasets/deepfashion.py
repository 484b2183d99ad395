"""DeepFashion: people in clothes, single images of 256 x 256 with 18 joints.

Joints in this order: nose, neck, right shoulder, elbow, wrist, left shoulder, elbow, wrist, right
hip, knee, ankle, left hip, knee, ankle, right eye, left eye, right ear, left ear.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, RawVideo, Rejected
from pipelines.datasets.person_images import PUBLISHED, Collection, list_images

SPEC = DatasetSpec(
    about="DeepFashion: people in clothes, single images with 18 joints",
    licence="the DeepFashion agreement: non-commercial research only",
    native_size_px=(256, 256),
    has_poses=True,
    published=PUBLISHED,
)
COLLECTION = Collection("deepfashion", body=(8, 2, 5, 11))


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The images listed in deepfashion/index.p or index.p. Raises UserError as list_images."""
    return list_images(raw, COLLECTION)
