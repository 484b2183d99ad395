"""Modules with the signature of the published in-betweening modules.

PYTHON_OF_FVD -m tests.pipelines.fvd.tweening_modules FOLDER     saves one that mixes both images
"""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

PAIRS = tf.TensorSpec([16, 2, 64, 64, 3], tf.float32, name="input_frames")


class CrossFade(tf.Module):
    """Mixes both images: the shapes and the ranges of the published modules."""

    @tf.function(input_signature=[PAIRS])
    def fill(self, input_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        share = tf.reshape(tf.range(1, 15, dtype=tf.float32) / 15, (1, 14, 1, 1, 1))
        first, last = input_frames[:, :1], input_frames[:, 1:]
        return {"default": first * (1 - share) + last * share}

    @tf.function(input_signature=[PAIRS])
    def too_few(self, input_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": tf.repeat(input_frames[:, :1], 7, axis=1)}


class Noisy(CrossFade):
    """The first image under a shade that is drawn."""

    @tf.function(input_signature=[PAIRS])
    def fill(self, input_frames: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "default": tf.repeat(input_frames[:, :1], 14, 1)
            + tf.random.normal([16, 1, 1, 1, 1], 0, 20)
        }


def saved(folder: Path, module: tf.Module, function: str = "fill", name: str = "default") -> Path:
    """Save a module with one of its functions as a signature of a name."""
    tf.saved_model.save(module, str(folder), signatures={name: getattr(module, function)})
    return folder


if __name__ == "__main__":
    saved(Path(sys.argv[1]), CrossFade())
