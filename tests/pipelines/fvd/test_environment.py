"""The environment `fvd` can do what the published FVD needs of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub


class _MeanColour(tf.Module):
    """Stands for a video network: clips in, one row of features for each clip out."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.Variable([1.0, 2.0, 4.0])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, 3], tf.float32)])
    def __call__(self, clips: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(clips, axis=[1, 2, 3]) * self.scale


@pytest.fixture
def module_dir(tmp_path: Path) -> Path:
    module = _MeanColour()
    tf.saved_model.save(module, str(tmp_path / "module"), signatures=module.__call__)
    return tmp_path / "module"


def test_hub_loads_a_module_from_a_folder_and_it_computes(module_dir: Path) -> None:
    clips = np.random.default_rng(0).random((2, 4, 8, 8, 3), dtype=np.float32)
    features = tensorflow_hub.load(str(module_dir))(tf.constant(clips)).numpy()
    np.testing.assert_allclose(features, clips.mean(axis=(1, 2, 3)) * [1, 2, 4], rtol=1e-5)


def test_a_module_takes_batches_of_any_size_through_its_signature(module_dir: Path) -> None:
    signature = tensorflow_hub.load(str(module_dir)).signatures["serving_default"]
    for num_clips in (1, 3):
        (features,) = signature(tf.ones((num_clips, 2, 4, 4, 3))).values()
        assert features.numpy().tolist() == [[1.0, 2.0, 4.0]] * num_clips


def test_the_bilinear_resize_of_the_published_protocol_is_the_first_version() -> None:
    ramp = tf.reshape(tf.range(4, dtype=tf.float32), (1, 1, 4, 1))
    resized = tf.compat.v1.image.resize_bilinear(ramp, (1, 8), align_corners=False)
    # Sampled at i * 4 / 8, with no half-pixel shift; the last sample repeats the edge.
    assert resized.numpy().ravel().tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
