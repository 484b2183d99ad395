"""The published FVD's hub module: one with I3D's architecture, narrower, through tensorflow_hub."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipelines.features.tensorflow_i3d import SCOPE, HubI3d, ModuleError, serve, write_module

HANDLE = "https://tfhub.dev/deepmind/i3d-kinetics-400/1"
WIDTH, CLASSES = 2, 5


def weights() -> dict[str, np.ndarray]:
    """Variables with I3D's names and kernels, two channels wide."""
    generator = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}

    def unit(name: str, kernel: int, channels_in: int) -> None:
        stem = f"{SCOPE}/{name}"
        shape = (kernel,) * 3 + (channels_in, WIDTH)
        scale = np.sqrt(2 / (channels_in * kernel**3))
        found[f"{stem}/conv_3d/w"] = (scale * generator.standard_normal(shape)).astype(np.float32)
        for leaf, value in (("beta", 0.1), ("moving_mean", 0.0), ("moving_variance", 1.0)):
            full = np.full((1, 1, 1, 1, WIDTH), value, np.float32)
            found[f"{stem}/batch_norm/{leaf}"] = full

    unit("Conv3d_1a_7x7", 7, 3)
    unit("Conv3d_2b_1x1", 1, WIDTH)
    unit("Conv3d_2c_3x3", 3, WIDTH)
    channels = WIDTH
    for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"):
        last = "0a" if block == "5b" else "0b"
        unit(f"Mixed_{block}/Branch_0/Conv3d_0a_1x1", 1, channels)
        for branch, name in ((1, "0b"), (2, last)):
            unit(f"Mixed_{block}/Branch_{branch}/Conv3d_0a_1x1", 1, channels)
            unit(f"Mixed_{block}/Branch_{branch}/Conv3d_{name}_3x3", 3, WIDTH)
        unit(f"Mixed_{block}/Branch_3/Conv3d_0b_1x1", 1, channels)
        channels = 4 * WIDTH
    last_layer = f"{SCOPE}/Logits/Conv3d_0c_1x1/conv_3d"
    found[f"{last_layer}/w"] = generator.standard_normal((1, 1, 1, channels, CLASSES)).astype("f4")
    found[f"{last_layer}/b"] = np.arange(CLASSES, dtype=np.float32)
    return found


@pytest.fixture(scope="module")
def module_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "i3d"
    write_module(folder, weights())
    return folder


def clips(num: int = 2, size_px: int = 40) -> np.ndarray:
    shape = (num, 9, size_px, size_px, 3)
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


def test_the_module_has_the_published_form(module_dir: Path) -> None:
    names = {name for name, _ in tf.train.list_variables(str(module_dir / "variables/variables"))}
    assert names == set(weights())
    assert (module_dir / "tfhub_module.pb").read_bytes() == b"\x08\x03"


def test_a_module_is_loaded_from_its_folder_and_from_a_cache(
    module_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_path = HubI3d(str(module_dir))
    features = by_path(clips())
    assert features.shape == (2, CLASSES)
    assert by_path.outputs_differ is False
    name = hashlib.sha1(HANDLE.encode(), usedforsecurity=False).hexdigest()
    (tmp_path / name).symlink_to(module_dir)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    np.testing.assert_allclose(HubI3d(HANDLE)(clips()), features, rtol=1e-5)


def test_clips_are_answered_one_batch_after_another(module_dir: Path) -> None:
    requests, answers = io.BytesIO(), io.BytesIO()
    for _ in range(2):
        batch = clips()
        requests.write(json.dumps({"shape": batch.shape}).encode() + b"\n" + batch.tobytes())
    requests.seek(0)
    serve(str(module_dir), requests, answers)
    answers.seek(0)
    assert json.loads(answers.readline())["ready"]
    found = []
    for _ in range(2):
        shape = json.loads(answers.readline())["shape"]
        found.append(np.frombuffer(answers.read(4 * int(np.prod(shape))), np.float32))
    np.testing.assert_array_equal(*found)


def test_a_module_without_the_signature_says_what_it_has(tmp_path: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, [tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "m"), {"twice": module.double})
    with pytest.raises(ModuleError, match="no signature 'default', but: twice"):
        HubI3d(str(tmp_path / "m"))


def test_a_signature_of_something_else_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, [tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "m"), {"default": module.double})
    with pytest.raises(ModuleError, match="not one batch of clips"):
        HubI3d(str(tmp_path / "m"))


def test_a_folder_without_a_module_is_an_answer_too(tmp_path: Path) -> None:
    answers = io.BytesIO()
    serve(str(tmp_path), io.BytesIO(), answers)
    assert "cannot be loaded" in json.loads(answers.getvalue())["error"]
