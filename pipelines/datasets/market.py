"""Market-1501: pedestrians, single images of 128 x 128 with 18 joints.

Joints in this order: right ankle, knee, hip, left hip, knee, ankle, right wrist, elbow, shoulder,
left shoulder, elbow, wrist, neck, nose, left eye, right eye, left ear, right ear.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, RawVideo, Rejected
from pipelines.datasets.person_images import PUBLISHED, Collection, list_images

SPEC = DatasetSpec(
    about="Market-1501: pedestrians, single images with 18 joints",
    licence="research only",
    native_size_px=(128, 128),
    has_poses=True,
    published=PUBLISHED,
)
COLLECTION = Collection("market", body=(8, 9, 3, 2))


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The images listed in market/index.p or index.p. Raises UserError as list_images."""
    return list_images(raw, COLLECTION)
