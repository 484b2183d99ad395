"""I3D in TensorFlow: runs a published hub module, or writes one of the same form.

A program of its own for the environment `fvd`, which has no torch; nothing here imports the rest
of the project. Started as `python -I tensorflow_i3d.py serve HANDLE` or `... write FOLDER WEIGHTS`.
`serve` reads clips from standard input and answers on standard output: a line of JSON with the
shape, then the raw values. Shapes: B clips, T frames.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

SCOPE = "RGB/inception_i3d"
LOGITS = f"{SCOPE}/Mean:0"
SIZE_PX = 224

_BLOCKS = (
    *("Mixed_3b", "Mixed_3c", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"),
    *("Mixed_5b", "Mixed_5c"),
)
_POOLS = {
    "Mixed_3b": ([1, 3, 3], [1, 2, 2]),
    "Mixed_4b": ([3, 3, 3], [2, 2, 2]),
    "Mixed_5b": ([2, 2, 2], [2, 2, 2]),
}
_EPS = 1e-3
_HUB_FORMAT = b"\x08\x03"
"""Content of tfhub_module.pb: a module of TensorFlow 1 in its third format."""


class ModuleError(Exception):
    """A hub module that cannot be used: text and, where there is one, what it has instead."""


class HubI3d:
    """A hub module and the resize that belongs to it."""

    def __init__(self, handle: str) -> None:
        """handle: a folder or an address; the folder $TFHUB_CACHE_DIR is looked in first."""
        import tensorflow as tf
        import tensorflow_hub as hub

        try:
            self._module = hub.load(handle)  # holds the variables
        except Exception as error:  # whatever a broken module makes TensorFlow raise
            raise ModuleError(f"it cannot be loaded: {str(error).splitlines()[0]}") from error
        signatures = getattr(self._module, "signatures", {})
        if "default" not in signatures:
            names = ", ".join(signatures) or "none"
            raise ModuleError(f"it has no signature 'default', but: {names}")
        signature = signatures["default"]
        _, inputs = signature.structured_input_signature
        if len(inputs) != 1 or len(next(iter(inputs.values())).shape) != 5:
            raise ModuleError(f"its signature takes {list(inputs)}, not one batch of clips")
        self._run = signature
        self._by_name = _pruned(signature)
        self._name = next(iter(inputs))
        self._tf = tf
        self.outputs_differ: bool | None = None

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """clips: uint8 B T H W 3.  Returns float32 B K: logits, as the published FVD takes them."""
        tf = self._tf
        frames = tf.constant(clips.reshape(-1, *clips.shape[2:]), tf.float32)
        resized = tf.compat.v1.image.resize_bilinear(
            frames, (SIZE_PX, SIZE_PX), align_corners=False
        )
        batch = tf.reshape(2 * resized / 255 - 1, (*clips.shape[:2], SIZE_PX, SIZE_PX, 3))
        if self._by_name is None or self.outputs_differ is None:
            outputs = self._run(**{self._name: batch})
            default = outputs.get("default", next(iter(outputs.values()))).numpy()
        if self._by_name is None:
            return np.asarray(default, np.float32)
        named = self._by_name(batch).numpy()
        if self.outputs_differ is None:  # once: is the default output the logits too?
            self.outputs_differ = not np.allclose(named, default, rtol=1e-4, atol=1e-4)
        return np.asarray(named, np.float32)


def _pruned(signature: Any) -> Any:
    """The function up to the logits, by the name they have in the published graph."""
    try:
        tensor = signature.graph.get_tensor_by_name(LOGITS)
    except (KeyError, ValueError):
        return None
    return signature.prune(signature.inputs[:1], tensor)


def write_module(folder: Path, weights: Mapping[str, np.ndarray]) -> None:
    """A hub module in the published form, with I3D's architecture and the given weights.

    weights: under the names of the published variables; a network is made of as many channels as
    they have.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default():
        clips = v1.placeholder(tf.float32, (None, None, SIZE_PX, SIZE_PX, 3), "input_clips")
        with v1.name_scope("RGB"), v1.name_scope("inception_i3d"):
            logits = _network(tf, clips, weights)
        info = v1.saved_model.utils.build_tensor_info
        signature = v1.saved_model.signature_def_utils.build_signature_def(
            {"rgb_input": info(clips)}, {"default": info(logits)}, "default"
        )
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(str(folder))
            builder.add_meta_graph_and_variables(
                session, tags=[], signature_def_map={"default": signature}
            )
            builder.save()
    (folder / "tfhub_module.pb").write_bytes(_HUB_FORMAT)


def _network(tf: Any, clips: Any, weights: Mapping[str, np.ndarray]) -> Any:
    v1 = tf.compat.v1

    def variable(name: str) -> Any:
        value = weights[f"{SCOPE}/{name}"]
        return v1.get_variable(f"{SCOPE}/{name}", initializer=tf.constant(value), use_resource=True)

    def unit(x: Any, name: str, stride: int = 1) -> Any:
        kernel = variable(f"{name}/conv_3d/w")
        x = tf.nn.conv3d(x, kernel, [1, stride, stride, stride, 1], "SAME")
        mean, variance, beta = (
            variable(f"{name}/batch_norm/{leaf}")
            for leaf in ("moving_mean", "moving_variance", "beta")
        )
        return tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, beta, None, _EPS))

    def pool(x: Any, kernel: Sequence[int], stride: Sequence[int]) -> Any:
        return tf.nn.max_pool3d(x, [1, *kernel, 1], [1, *stride, 1], "SAME")

    def block(x: Any, name: str) -> Any:
        last = "0a" if name == "Mixed_5b" else "0b"  # misnamed in the published graph
        branches = (
            unit(x, f"{name}/Branch_0/Conv3d_0a_1x1"),
            unit(unit(x, f"{name}/Branch_1/Conv3d_0a_1x1"), f"{name}/Branch_1/Conv3d_0b_3x3"),
            unit(unit(x, f"{name}/Branch_2/Conv3d_0a_1x1"), f"{name}/Branch_2/Conv3d_{last}_3x3"),
            unit(pool(x, [3, 3, 3], [1, 1, 1]), f"{name}/Branch_3/Conv3d_0b_1x1"),
        )
        return tf.concat(branches, 4)

    x = pool(unit(clips, "Conv3d_1a_7x7", 2), [1, 3, 3], [1, 2, 2])
    x = unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
    for name in _BLOCKS:
        x = block(pool(x, *_POOLS[name]) if name in _POOLS else x, name)
    x = tf.nn.avg_pool3d(x, [1, 2, 7, 7, 1], [1, 1, 1, 1, 1], "VALID")
    last = "Logits/Conv3d_0c_1x1/conv_3d"
    x = tf.nn.conv3d(x, variable(f"{last}/w"), [1, 1, 1, 1, 1], "SAME") + variable(f"{last}/b")
    return tf.reduce_mean(tf.squeeze(x, [2, 3]), axis=1, name="Mean")


def serve(handle: str, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer one batch after another until the input ends."""
    import tensorflow as tf

    try:
        module = HubI3d(handle)
    except ModuleError as error:
        _say(answers, {"error": str(error)})
        return
    _say(answers, {"ready": True, "tensorflow": tf.__version__})
    while line := requests.readline():
        shape = json.loads(line)["shape"]
        data = requests.read(int(np.prod(shape)))
        try:
            features = module(np.frombuffer(data, np.uint8).reshape(shape))
        except Exception as error:  # as above
            _say(answers, {"error": str(error).splitlines()[0]})
            return
        head = {"shape": features.shape, "outputs_differ": bool(module.outputs_differ)}
        _say(answers, head, features.tobytes())


def _say(answers: IO[bytes], head: Mapping[str, Any], data: bytes = b"") -> None:
    answers.write(json.dumps(head).encode() + b"\n" + data)
    answers.flush()


def main(arguments: Sequence[str]) -> int:
    """See the head of this file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TensorFlow prints must not get among the answers
    action, place, *rest = arguments
    if action == "serve":
        serve(place, sys.stdin.buffer, answers)
    else:
        with np.load(rest[0], allow_pickle=False) as stored:
            write_module(Path(place), {name: stored[name] for name in stored.files})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
