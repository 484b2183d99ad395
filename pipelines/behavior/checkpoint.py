"""Published names of weights -> ours (spec: behavior, 2). Pure functions on state dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from pipelines.nn.norm_conv import norm_entry

_Rules = Sequence[tuple[str, str | None]]
_NET: _Rules = (
    (r"^b_enc\.rnn\.", "encoder.rnn."),
    (r"^b_enc\.mu_fn\.", "encoder.mean."),
    (r"^b_enc\.std_fn\.", "encoder.log_std."),
    (r"^decoder\.n_out\.", "decoder.output."),
    (r"^decoder\.n_in\.", "decoder.input."),
)
_FLOW: _Rules = (
    (r"^flow\.sub_layers\.", "blocks."),
    (r"\.norm_layer\.", ".norm."),
    (r"\.coupling\.s\.", ".log_scale."),
    (r"\.coupling\.t\.", ".shift."),
    (r"\.main\.", "."),
    (r"\.shuffle\.forward_shuffle_idx$", ".order"),
    (r".*\.shuffle\.backward_shuffle_idx$", None),
)
_ACTION: _Rules = ((r"^RNN\.", "rnn."), (r"^fc1\.", "features."), (r"^fc3\.", "output."))
_VELOCITY: _Rules = (
    (r"\bbn1\.", "norm1."),
    (r"\bbn2\.", "norm2."),
    (r"^conv1\.", "conv."),
    (r"^norm1\.", "norm."),
    (r"\.downsample\.", ".shortcut."),
    (r"^layer1\.", "blocks."),
    (r"^layer2\.0\.", "blocks.2."),
    (r"^fc\.", "output."),
)
_POSTURE: _Rules = (
    (r"^fc1\.", "code.0."),
    (r"^fc2\.", "code.2."),
    (r"^fc3\.", "code.4."),
    (r"^fc4\.", "frame."),
    (r"^fc5\.", "output."),
)
_START: _Rules = ((r"^fc1\.", "0."), (r"^fc2\.", "2."), (r"^fc3\.", "4."))
_REALISM: _Rules = ((r"^GRU\.", "rnn."), (r"^fc1\.", "output."))
_MTVAE: _Rules = (
    (r"^lstm_enc\.", "encoder."),
    (r"^lstm_dec\.", "decoder."),
    (r"^latent_enc\.", "latent_encoder."),
    (r"^latent_dec\.", "latent_decoder."),
    (r"\.fc1\.", ".layers.0."),
    (r"\.fc2\.", ".layers.1."),
    (r"\.fc3\.", ".layers.2."),
    (r"^inv_z\.", "code."),
    (r"^make_h_dec\.", "first_hidden."),
    (r"^make_c_dec\.", "first_cell."),
    (r"^make_keypoints\.", "output."),
    (r"^(make_mu|cov)\..*", None),  # in the file, but the network never calls them
)


def net_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of BehaviorNet."""
    renamed = _renamed_all(published, _NET)
    return dict(norm_entry(key, value) for key, value in renamed.items())


def flow_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of BehaviorFlow."""
    renamed = _renamed_all(published, _FLOW)
    return {
        key: value.flatten() if re.search(r"norm\.(loc|scale)$", key) else value
        for key, value in renamed.items()
    }


def action_classifier_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of ActionClassifier."""
    return _renamed_all(published, _ACTION)


def velocity_classifier_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of VelocityClassifier."""
    return _renamed_all(published, _VELOCITY)


def posture_regressor_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of PostureRegressor."""
    return _renamed_all(published, _POSTURE)


def start_posture_regressor_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of what start_posture_regressor makes."""
    return _renamed_all(published, _START)


def realism_classifier_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of RealismClassifier."""
    return _renamed_all(published, _REALISM)


def mtvae_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of MotionTransformationVae."""
    return _renamed_all(published, _MTVAE)


def _renamed_all(published: Mapping[str, Tensor], rules: _Rules) -> dict[str, Tensor]:
    found = {}
    for key, value in published.items():
        name = _renamed(key.removeprefix("module."), rules)
        if name is not None:
            found[name] = value
    return found


def _renamed(key: str, rules: _Rules) -> str | None:
    for pattern, replacement in rules:
        if replacement is None:
            if re.search(pattern, key):
                return None
        else:
            key = re.sub(pattern, replacement, key)
    return key
