"""Human3.6M, from its archives to clips with poses. The people in these files are generated."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import cdflib
import h5py
import numpy as np
import pytest
from cdflib.cdfwrite import CDF

from pipelines.datasets import h36m, inspect, prepare
from pipelines.datasets.base import RawVideo, Rejected
from pipelines.datasets.config import ExtractRequest, InspectRequest
from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import SourceSet
from pipelines.datasets.generate import h36m_files
from pipelines.datasets.h36m_annotations import Annotations
from pipelines.datasets.h36m_camera import project, rotation, to_world
from pipelines.datasets.h36m_metadata import read_cameras
from pipelines.datasets.h36m_poses import JOINTS_KEPT, PoseFile, read_pose_file
from pipelines.datasets.h36m_takes import SUBJECTS, Take, prefix, takes_of
from pipelines.events import UserError, Work
from pipelines.io.images import read_image
from pipelines.io.packed import PackedVideos
from pipelines.io.video import read_video
from tests.pipelines.datasets.fetch_cases import Said, request_for

NUM_FRAMES = 20
TAKE = Take(subject=9, action=14, subaction=1, camera=55011271)
POSES = "Poses_D3_Positions_mono_universal"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of two subjects: three actions, two cameras."""
    root = tmp_path_factory.mktemp("made")
    h36m_files.write_h36m_files(root, subjects=(1, 9), num_frames=NUM_FRAMES)
    return root


@pytest.fixture
def raw(tmp_path: Path, made: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "raw"))


def _extract(data_root: Path, raw: Path, **options: Any) -> PackedVideos:
    usual = {"name": "h36m", "kind": "h36m", "size_px": 32, "jobs": 1, "min_frames": 5}
    request = ExtractRequest(data_root=data_root, source=raw, **{**usual, **options})
    return PackedVideos(Path(prepare.extract_frames(request, Work())["variant_dir"]))


def _rejected(packed: PackedVideos) -> dict[str, tuple[str, str]]:
    lines = (packed.dir / "rejected.jsonl").read_text().splitlines()
    return {row["id"]: (row["reason"], row["detail"]) for row in map(json.loads, lines)}


def _all_of(packed: PackedVideos, name: str, take: Take = TAKE) -> np.ndarray:
    row = packed.ids.index(take.id)
    return packed.extra(name)(row, 0, int(packed.num_frames[row]))


def _true_world_m(made: Path, take: Take = TAKE) -> np.ndarray:
    with Annotations(made / "processed/all/annot_export.h5") as annotations:
        rows = next(each for each in annotations.takes() if each.take == take)
        return annotations.read(rows)[0][:, JOINTS_KEPT] / 1000


# Names


@pytest.mark.parametrize(
    ("subject", "action", "subaction", "name"),
    [
        (1, 2, 1, "Directions 1"),
        (1, 2, 2, "Directions"),
        (1, 12, 2, "TakingPhoto"),
        (5, 12, 2, "Photo 2"),
        (1, 15, 2, "WalkingDog"),
        (7, 15, 1, "WalkDog 1"),
        (8, 16, 2, "WalkTogether 2"),
        (6, 13, 1, "Waiting 3"),
        (11, 6, 1, "Phoning 3"),
        (9, 3, 2, "Discussion 2"),
    ],
)
def test_files_are_named_by_the_datasets_own_table(
    subject: int, action: int, subaction: int, name: str
) -> None:
    assert prefix(subject, action, subaction) == name


def test_a_subject_has_sixty_recordings_times_four_that_no_two_share() -> None:
    for subject in SUBJECTS:
        takes = list(takes_of(subject))
        assert len({take.stem for take in takes}) == len({take.id for take in takes}) == 120


# Cameras


def test_projection_goes_both_ways() -> None:
    rng = np.random.default_rng(0)
    extrinsics = np.c_[rotation(rng.normal(size=3)), [100.0, -50.0, 4000.0]]
    world = rng.normal(0, 500, (7, 17, 3))
    camera, pixels = project(world, extrinsics, np.array([1100.0, 510, 1200, 490]))
    assert np.allclose(to_world(camera, extrinsics), world, atol=1e-9)
    assert np.allclose(pixels[..., 0], 1100 * camera[..., 0] / camera[..., 2] + 510)
    assert np.allclose(pixels[..., 1], 1200 * camera[..., 1] / camera[..., 2] + 490)


def test_angles_turn_about_x_then_y_then_z() -> None:
    quarter = np.pi / 2
    assert np.allclose(rotation(np.array([quarter, 0, 0])) @ [0, 1, 0], [0, 0, 1])
    assert np.allclose(rotation(np.array([0, quarter, 0])) @ [0, 0, 1], [1, 0, 0])
    assert np.allclose(rotation(np.array([0, 0, quarter])) @ [1, 0, 0], [0, 1, 0])
    assert np.allclose(rotation(np.array([quarter, 0, quarter])) @ [1, 0, 0], [0, 0, 1])


def test_the_cameras_of_metadata_xml_are_those_of_the_annotations(made: Path) -> None:
    cameras = read_cameras(made / "metadata.xml")
    assert len(cameras) == 11 * 4
    with Annotations(made / "processed/all/annot_export.h5") as annotations:
        for rows in annotations.takes():
            _, expected = annotations.read(rows)
            camera = cameras[rows.take.subject, rows.take.camera]
            assert np.allclose(camera.extrinsics[:, :3], expected.extrinsics[:, :3], atol=1e-6)
            assert np.allclose(camera.extrinsics[:, 3], expected.extrinsics[:, 3], atol=0.01)
            assert np.allclose(camera.intrinsics, expected.intrinsics)


# From archives to clips


def _archive(made: Path, into: Path) -> None:
    """The subjects' archives as the server gives them, each with folders that all files share."""
    into.mkdir(parents=True)
    for subject in ("S1", "S9"):
        for name in ("Videos", POSES):
            with tarfile.open(into / f"{name}_{subject}.tgz", "w:gz", compresslevel=1) as archive:
                archive.add(made / "extracted" / subject / name, f"{subject}/MyPoses/{name}")


UNPACK = [{"match": r"archives/(Videos|Poses_\w+)_(S\d+)\.tgz", "into": "extracted/{2}/{1}"}]


def _sources(names: list[str]) -> SourceSet:
    files = [
        {"name": f"archives/{name}", "urls": [f"https://example.org/{name}"]} for name in names
    ]
    facts = {"about": "a test", "terms": "none", "citation": "nobody", "unpack": UNPACK}
    return SourceSet.model_validate({**facts, "sources": [{"kind": "https", "files": files}]})


def _unpack(tmp_path: Path, hand: Path) -> Path:
    names = sorted(path.name for path in hand.iterdir())
    request = request_for(tmp_path, _sources(names), dataset="h36m", from_dir=hand)
    fetch(request, Said())
    return tmp_path / "data" / "h36m" / "raw"


def test_archives_become_clips_with_poses_in_the_room(tmp_path: Path, made: Path) -> None:
    _archive(made, tmp_path / "hand")
    raw = _unpack(tmp_path, tmp_path / "hand")
    shutil.copy(made / "metadata.xml", raw)
    packed = _extract(tmp_path / "data", raw, size_px=64)
    assert len(packed) == 2 * 3 * 2
    rows = packed.select("train", min_frames=17)
    clips = np.stack([packed.frames(row, 2, 17) for row in rows])
    assert clips.shape == (6, 17, 64, 64, 3)
    poses = packed.extra("joints_world_m")
    assert np.stack([poses(row, 2, 17) for row in rows]).shape == (6, 17, 17, 3)
    assert {packed.rows[row].labels["subject"] for row in rows} == {1}
    assert np.allclose(_all_of(packed, "joints_world_m"), _true_world_m(made), atol=1e-4)
    row = packed.rows[packed.ids.index(TAKE.id)]
    assert (row.split, row.group, row.fps) == ("test", "S9", 50)
    wanted = {"subject": 9, "action": "Walking", "action_id": 14, "subaction": 1}
    assert wanted.items() <= dict(row.labels).items()


def test_frames_show_the_people_where_the_joints_say(tmp_path: Path, made: Path) -> None:
    packed = _extract(tmp_path, made, size_px=64)
    row = packed.ids.index(TAKE.id)
    frames = packed.frames(row, 0, NUM_FRAMES)
    video = made / "extracted/S9/Videos" / f"{TAKE.stem}.mp4"
    assert np.array_equal(frames, read_video(video, size_px=64))
    still = np.median(frames.astype(int), axis=0)
    moved = np.abs(frames - still).max(axis=-1).max(axis=0) > 30
    y, x = np.nonzero(moved)
    joints = _all_of(packed, "joints_h36m") * 64
    inside = (joints > [x.min() - 4, y.min() - 4]) & (joints < [x.max() + 4, y.max() + 4])
    assert inside.mean() > 0.6  # what moves is a part of the person


def test_poses_of_the_pose_files_and_of_the_annotations_agree(tmp_path: Path, raw: Path) -> None:
    annotated = _extract(tmp_path / "a", raw)
    (raw / "processed/all/annot_export.h5").unlink()
    from_files = _extract(tmp_path / "b", raw)
    assert annotated.ids == from_files.ids
    for name, tolerance in (("joints_world_m", 1e-4), ("joints_h36m", 3e-3)):
        for take in (TAKE, TAKE._replace(subject=1, camera=54138969)):
            first, second = _all_of(annotated, name, take), _all_of(from_files, name, take)
            assert first.shape == second.shape and first.dtype == np.float32
            # 1000 rows in the generated pictures, 1002 in the dataset's.
            assert np.allclose(first, second, atol=tolerance)


def test_without_cameras_the_poses_are_the_cameras_own(tmp_path: Path, raw: Path) -> None:
    (raw / "processed/all/annot_export.h5").unlink()
    (raw / "metadata.xml").unlink()
    packed = _extract(tmp_path, raw)
    assert packed.extra_names == ["joints_camera_m"]
    path = raw / "extracted/S9" / POSES / f"{TAKE.stem}.cdf"
    expected = cdflib.CDF(path).varget("Pose").reshape(-1, 32, 3)[:, JOINTS_KEPT] / 1000
    assert np.allclose(_all_of(packed, "joints_camera_m"), expected, atol=1e-6)


def test_poses_follow_the_frames_that_are_kept(tmp_path: Path, made: Path) -> None:
    all_poses = _true_world_m(made)
    third = _extract(tmp_path, made, stride=3)
    assert np.allclose(_all_of(third, "joints_world_m"), all_poses[::3], atol=1e-5)
    half = _extract(tmp_path, made, fps=25)
    assert np.allclose(_all_of(half, "joints_world_m"), all_poses[::2], atol=1e-5)
    in_time = _extract(tmp_path, made, split_by="time", split=(0.5, 0.0, 0.5))
    row = in_time.ids.index(f"{TAKE.id}~test")
    late = in_time.extra("joints_world_m")(row, 0, NUM_FRAMES // 2)
    assert np.allclose(late, all_poses[NUM_FRAMES // 2 :], atol=1e-5)


def test_frames_beyond_the_last_pose_are_dropped(tmp_path: Path, raw: Path) -> None:
    (raw / "processed/all/annot_export.h5").unlink()
    path = raw / "extracted/S9" / POSES / f"{TAKE.stem}.cdf"
    poses = read_pose_file(path)
    path.unlink()
    h36m_files.write_pose_file(path, poses[:12])
    packed = _extract(tmp_path, raw)
    assert packed.num_frames[packed.ids.index(TAKE.id)] == 12
    assert len(_all_of(packed, "joints_world_m")) == 12


def test_poses_alone_can_be_prepared(tmp_path: Path, raw: Path) -> None:
    with_frames = _extract(tmp_path, raw)
    for subject in ("S1", "S9"):
        shutil.rmtree(raw / "extracted" / subject / "Videos")
        shutil.rmtree(raw / "processed" / "all" / subject)
    packed = _extract(tmp_path, raw, storage="none")
    assert packed.dir.name.startswith("no-frames")
    assert packed.ids == with_frames.ids
    for name in ("joints_world_m", "joints_h36m"):
        assert np.array_equal(_all_of(packed, name), _all_of(with_frames, name))
    assert packed.rows[0].fps == 50
    with pytest.raises(UserError, match="holds no frames") as caught:
        packed.frames(0, 0, 5)
    assert caught.value.exit_code == 4
    assert sum(path.stat().st_size for path in packed.dir.rglob("*")) < 200_000


def test_poses_without_frames_are_shown_as_stick_figures(tmp_path: Path, made: Path) -> None:
    _extract(tmp_path, made, storage="none")
    request = InspectRequest(data_root=tmp_path, name="h36m", num_videos=3, num_frames=4)
    sheet = read_image(Path(inspect.preview(request, Work())["path"])).astype(int)
    red, green, blue = (
        np.all(np.abs(sheet - colour) < 2, axis=-1).sum()
        for colour in ((255, 0, 0), (0, 255, 0), (0, 127, 255))
    )
    assert min(red, green, blue) > 12 * 20


def test_poses_without_video_are_left_out_where_frames_are_wanted(
    tmp_path: Path, raw: Path
) -> None:
    (raw / "extracted/S9/Videos" / f"{TAKE.stem}.mp4").unlink()
    shutil.rmtree(raw / "processed/all/S9/Walking-1")
    packed = _extract(tmp_path, raw)
    assert TAKE.id not in packed.ids and len(packed) == 11
    assert _rejected(packed)[TAKE.id] == ("unreadable", "no video and no images")


# Published layouts


def test_images_of_the_behaviour_model_stand_in_for_missing_videos(
    tmp_path: Path, raw: Path
) -> None:
    videos = _extract(tmp_path, raw)
    for subject in ("S1", "S9"):
        shutil.rmtree(raw / "extracted" / subject)
    images = _extract(tmp_path / "images", raw)
    assert images.ids == videos.ids
    row = images.ids.index(TAKE.id)
    frames = [each.frames(row, 0, NUM_FRAMES).astype(int) for each in (images, videos)]
    assert np.abs(frames[0] - frames[1]).mean() < 4
    assert np.array_equal(_all_of(images, "joints_h36m"), _all_of(videos, "joints_h36m"))


def test_videos_and_frames_of_the_poking_model_are_accepted(tmp_path: Path, raw: Path) -> None:
    videos = tmp_path / "poking" / "videos" / "S9"
    shutil.copytree(raw / "extracted/S9/Videos", videos)
    (videos / "_ALL 1.54138969.mp4").write_bytes(b"calibration")
    (videos / "Swimming.54138969.mp4").write_bytes(b"?")
    images = raw / "processed/all/S1/Walking-1/imageSequence/54138969"
    target = tmp_path / "poking" / "processed/S1/Walking-4/54138969"
    target.mkdir(parents=True)
    for number, path in enumerate(sorted(images.iterdir())):
        shutil.copy(path, target / f"frame_{8 * number}.jpg")
    packed = _extract(tmp_path, tmp_path / "poking")
    assert len(packed) == 7
    kept = packed.rows[packed.ids.index("S1/Walking-4/54138969")]
    assert (kept.fps, kept.split, kept.labels["action_id"]) == (6.25, "train", 14)
    reasons = _rejected(packed)
    assert reasons["S9/Swimming.54138969.mp4"][0] == "unknown name"
    assert not any("_ALL" in name for name in reasons)


def test_every_recording_of_the_table_is_there_or_reported(made: Path) -> None:
    found = list(h36m.layout(made))
    videos = [each for each in found if isinstance(each, RawVideo)]
    missing = {each.id for each in found if isinstance(each, Rejected)}
    assert len(videos) == 12
    assert len(missing) == 2 * 120 - 12 + 5
    assert "S11" in missing and "S9/WalkingDog-2/60457274" in missing
    splits = {video.labels["subject"]: video.splits["official"] for video in videos}
    assert splits == {1: "train", 9: "test"}


def test_the_poking_models_own_split_cuts_every_video_in_time(tmp_path: Path, made: Path) -> None:
    packed = _extract(tmp_path, made, storage="none", protocol="gui", min_frames=2)
    rows = [row for row in packed.rows if row.id.startswith(TAKE.id)]
    assert {row.split: row.num_frames for row in rows} == {"train": 16, "test": 4}


# Bad input


def _write_cdf(path: Path, values: np.ndarray, name: str = "Pose") -> None:
    path.unlink()
    spec = {"Variable": name, "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True}
    with CDF(path) as file:
        sizes = list(values.shape[1:])
        file.write_var({**spec, "Dim_Sizes": sizes, "Compress": 6}, var_data=values)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: _write_cdf(path, np.zeros((1, 20, 90), "f4")), "not (1, T, 96)"),
        (lambda path: _write_cdf(path, np.zeros((2, 20, 96), "f4")), "not (1, T, 96)"),
        (lambda path: _write_cdf(path, np.full((1, 20, 96), np.nan, "f4")), "finite"),
        (lambda path: _write_cdf(path, np.zeros((1, 20, 96), "f4"), "Rose"), "Pose"),
        (lambda path: path.write_bytes(path.read_bytes()[:700]), "cannot read the poses"),
        (lambda path: path.write_bytes(b""), "cannot read the poses"),
        (lambda path: path.write_bytes(b"text" * 999), "cannot read the poses"),
    ],
    ids=["joints", "records", "nan", "other variable", "cut", "empty", "text"],
)
def test_a_bad_pose_file_costs_its_own_recording_only(
    tmp_path: Path, raw: Path, spoil: Any, said: str
) -> None:
    (raw / "processed/all/annot_export.h5").unlink()
    spoil(raw / "extracted/S9" / POSES / f"{TAKE.stem}.cdf")
    packed = _extract(tmp_path, raw, storage="none")
    assert len(packed) == 11 and TAKE.id not in packed.ids
    reason, detail = _rejected(packed)[TAKE.id]
    assert reason == "unreadable" and said in detail


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<camera>60457274</camera>", "", "camera 60457274 not in dbcameras/index2id"),
        ("60457274", "60457275", "camera 60457274 not in dbcameras/index2id"),
        ("<w0>[", "<w0>[1 ", "w0 holds 301 numbers, not 300"),
        ("<w0>[", "<w0>[one ", "could not convert"),
        ("</data>", "", "no element found"),
        ("<data>", "<!DOCTYPE x><data>", "declares entities"),
    ],
    ids=["missing camera", "other camera", "too many", "words", "cut", "entities"],
)
def test_bad_metadata_is_an_error_before_any_work(
    tmp_path: Path, raw: Path, old: str, new: str, said: str
) -> None:
    path = raw / "metadata.xml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=r"metadata\.xml is not the one") as caught:
        _extract(tmp_path / "data", raw)
    assert caught.value.exit_code == 4
    assert said in caught.value.details["reason"]
    assert not (tmp_path / "data").exists()


def _without_column(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["extrinsics_univ"]


def _with_other_joints(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values = file["keypoints_3d_world"][:, :17]
        del file["keypoints_3d_world"]
        file["keypoints_3d_world"] = values


def _with_scattered_rows(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["p_ids"][-1] = file["p_ids"][0]
        for name in ("action", "subaction", "camera_id"):
            file[name][-1] = file[name][0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without_column, "it has no extrinsics_univ"),
        (_with_other_joints, "keypoints_3d_world is float32"),
        (_with_scattered_rows, "lie in several places"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "not a whole HDF5 file"),
        (lambda path: path.write_bytes(b"text"), "not a whole HDF5 file"),
    ],
    ids=["column", "joints", "scattered", "cut", "text"],
)
def test_an_annotation_file_of_another_form_is_an_error_before_any_work(
    tmp_path: Path, raw: Path, spoil: Any, said: str
) -> None:
    spoil(raw / "processed/all/annot_export.h5")
    with pytest.raises(UserError, match="not an annotation file that this version") as caught:
        _extract(tmp_path / "data", raw)
    assert caught.value.exit_code == 4
    assert said in caught.value.details["reason"]
    assert "to fix" in caught.value.details
    assert not (tmp_path / "data").exists()


def test_gaps_in_the_annotated_frames_cost_that_recording_only(tmp_path: Path, raw: Path) -> None:
    path = raw / "processed/all/annot_export.h5"
    with Annotations(path) as annotations:
        rows = next(each for each in annotations.takes() if each.take == TAKE)
    with h5py.File(path, "r+") as file:
        file["f_ids"][rows.first + 3] = 40
    packed = _extract(tmp_path, raw, storage="none")
    assert TAKE.id not in packed.ids and len(packed) == 11
    assert "without gaps" in _rejected(packed)[TAKE.id][1]


def test_a_damaged_video_is_left_out_and_named(tmp_path: Path, raw: Path) -> None:
    path = raw / "extracted/S9/Videos" / f"{TAKE.stem}.mp4"
    path.write_bytes(path.read_bytes()[:500])
    packed = _extract(tmp_path, raw)
    assert len(packed) == 11 and _rejected(packed)[TAKE.id][0] in ("unreadable", "damaged")


def test_a_cut_archive_is_an_error_and_what_was_unpacked_stays(tmp_path: Path, made: Path) -> None:
    hand = tmp_path / "hand"
    _archive(made, hand)
    cut = hand / "Videos_S9.tgz"
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged") as caught:
        _unpack(tmp_path, hand)
    assert "to fix" in caught.value.details
    raw = tmp_path / "data" / "h36m" / "raw"
    assert sorted(path.name for path in (raw / "extracted").glob("S*/*")) == [
        POSES,
        POSES,
        "Videos",
    ]
    assert len(_extract(tmp_path / "data", raw)) == 6


def test_archives_that_nobody_unpacked_are_explained(tmp_path: Path, made: Path) -> None:
    _archive(made, tmp_path / "raw" / "archives")
    with pytest.raises(UserError, match="are not unpacked") as caught:
        _extract(tmp_path / "data", tmp_path / "raw")
    assert caught.value.exit_code == 4
    assert caught.value.details["run first"].startswith("i2v download h36m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no recordings of Human3\.6M"):
        _extract(tmp_path / "data", tmp_path / "empty")


def test_a_pose_file_without_poses_of_its_own_is_read_only_once_asked(made: Path) -> None:
    track = PoseFile(made / "extracted/S9" / POSES / f"{TAKE.stem}.cdf", TAKE).read()
    assert track.num_frames == NUM_FRAMES and set(track.arrays) == {"joints_camera_m"}


def test_changed_poses_are_noticed(tmp_path: Path, raw: Path) -> None:
    (raw / "processed/all/annot_export.h5").unlink()
    before = _all_of(_extract(tmp_path, raw, storage="none"), "joints_world_m")
    path = raw / "extracted/S9" / POSES / f"{TAKE.stem}.cdf"
    poses = read_pose_file(path)
    path.unlink()
    h36m_files.write_pose_file(path, poses + 100.0)
    after = _all_of(_extract(tmp_path, raw, storage="none"), "joints_world_m")
    assert not np.allclose(before, after)
