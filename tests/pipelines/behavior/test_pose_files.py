from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.behavior.pose_files import Poses, Wanted, read_poses
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from tests.learning.behavior_world import POSES, prepare_poses

WORLD = Wanted(17, 3, "joints_world_m")
PICTURE = Wanted(17, 2, "joints_h36m")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("poses")
    prepare_poses(root, {"train": 2}, num_frames=12)
    return root


@pytest.fixture(scope="module")
def take(data_root) -> np.ndarray:
    return read_poses(f"{POSES}:train/00000", WORLD, data_root).joints


def refused(text: str | Path, data_root: Path, wanted: Wanted = WORLD, **more) -> UserError:
    with pytest.raises(UserError) as found:
        read_poses(str(text), wanted, data_root, **more)
    return found.value


def test_a_take_of_prepared_data_starts_where_it_is_asked_to(data_root, take):
    assert take.shape == (12, 17, 3)
    later = read_poses(f"{POSES}:train/00000@5", WORLD, data_root)
    assert np.array_equal(later.joints, take[5:])
    assert later.fps == 12.0


def test_every_form_of_file_gives_the_same_poses(data_root, take, tmp_path):
    np.save(tmp_path / "a.npy", take)
    np.save(tmp_path / "flat.npy", take.reshape(12, 51))
    np.savez(tmp_path / "b.npz", joints_world_m=take, fps=12.0)
    content = {"joints": take.tolist(), "fps": 12}
    (tmp_path / "c.json").write_text(json.dumps(content))
    (tmp_path / "d.json").write_text(json.dumps(take.tolist()))
    (tmp_path / "mm.json").write_text(json.dumps({"joints": (take * 1000).tolist(), "unit": "mm"}))
    np.savetxt(tmp_path / "e.csv", take.reshape(12, 51), delimiter=",")
    for path in tmp_path.iterdir():
        found = read_poses(str(path), WORLD, data_root)
        assert np.allclose(found.joints, take, atol=1e-6), path.name
    assert read_poses(f"{tmp_path}/c.json@11", WORLD, data_root).joints.shape == (1, 17, 3)


def test_a_video_takes_the_poses_that_lie_beside_it(data_root, take, tmp_path):
    (tmp_path / "walk.mp4").write_bytes(b"")
    error = refused(tmp_path / "walk.mp4", data_root)
    assert "no poses for 'walk.mp4'" in error.message and "walk.json" in str(error.details)
    np.save(tmp_path / "walk.npy", take)
    found = read_poses(str(tmp_path / "walk.mp4"), WORLD, data_root)
    assert np.array_equal(found.joints, take) and found.picture == tmp_path / "walk.mp4"


def test_other_frame_rates_come_to_that_of_the_model():
    joints = np.arange(9.0)[:, None, None] * np.ones((1, 17, 3))
    halved = Poses("a", joints, fps=50.0).at_fps(25.0)
    assert halved.joints[:, 0, 0].tolist() == [0, 2, 4, 6, 8]
    raised = Poses("a", joints, fps=10.0).at_fps(20.0)
    assert raised.joints[:4, 0, 0].tolist() == [0, 0.5, 1, 1.5]
    assert len(Poses("a", joints).at_fps(25.0).joints) == 9


def test_missing_joints_are_named(data_root, take, tmp_path):
    broken = take.copy()
    broken[3, 5] = np.nan
    np.save(tmp_path / "a.npy", broken)
    error = refused(tmp_path / "a.npy", data_root)
    assert "missing joints" in error.message
    assert error.details["first"].startswith("joint 5 in frame 3")
    content = [[None if np.isnan(v) else v for v in row] for row in broken.reshape(12, 51).tolist()]
    (tmp_path / "b.json").write_text(json.dumps(content))
    assert "missing joints" in refused(tmp_path / "b.json", data_root).message


def test_millimetres_and_pixels_are_told_from_metres_and_fractions(data_root, take, tmp_path):
    np.save(tmp_path / "mm.npy", take * 1000)
    error = refused(tmp_path / "mm.npy", data_root)
    assert "not in metres" in error.message and "millimetres" in str(error.details)
    np.save(tmp_path / "pixels.npy", np.full((3, 17, 2), 240.0))
    error = refused(tmp_path / "pixels.npy", data_root, PICTURE)
    assert "not fractions" in error.message and "pixels" in str(error.details)


def test_another_skeleton_is_refused_by_its_number_or_its_limbs(data_root, take, tmp_path):
    np.save(tmp_path / "more.npy", np.zeros((4, 25, 3)))
    error = refused(tmp_path / "more.npy", data_root)
    assert "25 joints" in error.message and "takes 17 joints of 3 axes" in error.message
    np.save(tmp_path / "order.npy", take[:, np.roll(np.arange(17), 1)])
    assert "another skeleton" in refused(tmp_path / "order.npy", data_root).message
    np.save(tmp_path / "flat.npy", take[..., :2])
    assert "takes 17 joints of 3 axes" in refused(tmp_path / "flat.npy", data_root).message


def test_too_few_poses_are_counted(data_root):
    error = refused(f"{POSES}:train/00000@4", data_root, min_frames=9)
    assert "has 8 poses, the model needs 9" in error.message
    assert error.exit_code == EXIT_NO_DATA
    assert "none at 40" in refused(f"{POSES}:train/00000@40", data_root).message


def test_files_that_are_no_poses_say_why(data_root, tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text('{"points": []}')
    (tmp_path / "c.npy").write_bytes(b"not numpy")
    (tmp_path / "d.csv").write_text("a,b\n")
    np.savez(tmp_path / "e.npz", frames=np.zeros(3))
    np.save(tmp_path / "f.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for path in tmp_path.iterdir():
        error = refused(path, data_root)
        assert "cannot be read" in error.message and error.details["reason"], path.name
    (tmp_path / "u.json").write_text('{"joints": [[0]], "unit": "inch"}')
    np.save(tmp_path / "none.npy", np.zeros((0, 17, 3)))
    assert "there are no poses" in refused(tmp_path / "none.npy", data_root).message


def test_annotation_files_are_prepared_first(data_root, tmp_path):
    for name in ("annot_export.h5", "Walking.cdf"):
        (tmp_path / name).write_bytes(b"x")
        error = refused(tmp_path / name, data_root)
        assert error.exit_code == EXIT_USAGE
        assert "extract-frames h36m" in error.details["run first"]


def test_names_of_prepared_data_are_checked(data_root):
    error = refused(f"{POSES}:train/99999", data_root)
    assert "no video 'train/99999'" in error.message and "train/00000" in str(error.details)
    assert "no frames for dataset" in refused("nowhere:a/b", data_root).message
    assert "there are no poses" in refused("gone.npy", data_root).message
