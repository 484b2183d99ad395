"""Published names of weights -> ours (spec: behavior, 2), and published folders -> our runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pipelines.behavior import published
from pipelines.behavior.baseline import build_mtvae
from pipelines.behavior.config import FamilyConfig
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.frozen import FAMILY
from pipelines.behavior.networks import BehaviorNet
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.nn.norm_conv import norm_entry
from pipelines.training.config import ImportRequest
from pipelines.training.published import (
    ImportedRun,
    State,
    check_fit,
    read_checkpoint,
    write_run,
)

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


def import_published(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Make a run folder of a published behaviour model: stage 1, with its flow where it is there.

    The flow's weights are mapped, not read; published models come without the scale of their poses,
    which is computed from the prepared data when it is first needed.
    """
    files = published.weight_files(request.path, family=FAMILY)
    chosen: dict[str, Path] = {}
    states: dict[str, State] = {}
    for number, path in enumerate(files, 1):
        state = published.weights_in(read_checkpoint(path, trust=request.trust_checkpoint), path)
        role = published.role_of(state)
        if role in states:
            raise _several(request.path, (chosen[role], path))
        if role is not None:
            chosen[role], states[role] = path, state
        work.progress("read published weights", number, len(files), "files")
    _require_net(request.path, files, states)
    model = published.PublishedModel(
        request.path, chosen, published.settings_beside(chosen.values())
    )
    run = _run(model, states, request)
    write_run(request.run_dir, run)
    work.artifact(request.run_dir, "run")
    return {
        "run": str(request.run_dir),
        "family": FAMILY,
        "stage": run.stage,
        "files": [str(path) for path in chosen.values()],
    }


def _require_net(path: Path, files: Sequence[Path], states: Mapping[str, State]) -> None:
    if "net" not in states and "mtvae" not in states:
        lone = "a flow without its behavior net" if "flow" in states else "no behaviour model"
        raise UserError(
            f"{lone} in '{path.name}'",
            {
                "looked in": ", ".join(str(each) for each in files[:4]),
                "to fix": "give the folder with reg_ckpt_*.pth, beside it flow_ckpt_*.pth",
            },
            EXIT_NO_DATA,
        )


def _several(path: Path, found: Sequence[Path]) -> UserError:
    return UserError(
        "several published models are here, one can be imported at a time",
        {
            "looked in": path,
            "found": ", ".join(str(each) for each in found),
            "to fix": f"name one: i2v import behavior {found[-1].parent}",
        },
        EXIT_USAGE,
    )


def _run(
    model: published.PublishedModel, states: Mapping[str, State], request: ImportRequest
) -> ImportedRun:
    """The run of the whole model, or of stage 1; all weights fit."""
    config = _config(model, states)
    first = "mtvae" if "mtvae" in states else "net"
    convert = mtvae_state if first == "mtvae" else net_state
    state = convert(states[first])
    stage1 = ImportedRun(
        family=FAMILY,
        stage="1",
        request=_request("1", config, request),
        states={"net": state},
        sources=[model.files[first]],
    )
    with torch.device("meta"):
        net = build_mtvae(config.stage1) if first == "mtvae" else BehaviorNet(config.stage1.net)
    check_fit(net, state, model.files[first])
    if "flow" not in states:
        return stage1
    flow_weights = flow_state(states["flow"])
    with torch.device("meta"):
        flow = BehaviorFlow(config.stage2.flow, code_size=config.stage1.net.code_size)
    check_fit(flow, flow_weights, model.files["flow"])
    return ImportedRun(
        family=FAMILY,
        stage="2",
        request=_request("2", config, request),
        states={"flow": flow_weights},
        sources=[model.files["flow"]],
        frozen={"stage1": stage1},
    )


def _config(model: published.PublishedModel, states: Mapping[str, State]) -> FamilyConfig:
    try:
        return FamilyConfig.model_validate(published.our_settings(model, states))
    except (ValidationError, KeyError, TypeError) as error:
        raise UserError(
            "the published settings describe no behaviour model",
            {
                "looked in": model.folder,
                "reason": str(error).splitlines()[0],
                "to fix": "download the folder again",
            },
            EXIT_USAGE,
        ) from error


def _request(stage: str, config: FamilyConfig, request: ImportRequest) -> dict[str, Any]:
    """Content of config.yaml: what a training of this model would have been asked for."""
    return {
        "config": config.model_dump(mode="json"),
        "stage": stage,
        "run_dir": str(request.run_dir),
        "imported_from": str(request.path),
    }


def net_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of BehaviorNet."""
    renamed = _renamed_all(state, _NET)
    return dict(norm_entry(key, value) for key, value in renamed.items())


def flow_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of BehaviorFlow."""
    renamed = _renamed_all(state, _FLOW)
    return {
        key: value.flatten() if re.search(r"norm\.(loc|scale)$", key) else value
        for key, value in renamed.items()
    }


def action_classifier_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of ActionClassifier."""
    return _renamed_all(state, _ACTION)


def velocity_classifier_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of VelocityClassifier."""
    return _renamed_all(state, _VELOCITY)


def posture_regressor_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of PostureRegressor."""
    return _renamed_all(state, _POSTURE)


def start_posture_regressor_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of what start_posture_regressor makes."""
    return _renamed_all(state, _START)


def realism_classifier_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of RealismClassifier."""
    return _renamed_all(state, _REALISM)


def mtvae_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of MotionTransformationVae."""
    return _renamed_all(state, _MTVAE)


def _renamed_all(state: Mapping[str, Tensor], rules: _Rules) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
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
