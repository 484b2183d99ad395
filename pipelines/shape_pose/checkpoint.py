"""Published names of weights -> ours (spec: behavior, 2.4 to 2.8), and folders -> our runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.nn.norm_conv import norm_entry
from pipelines.shape_pose import published
from pipelines.shape_pose.config import FamilyConfig
from pipelines.shape_pose.sample import FAMILY
from pipelines.shape_pose.steps import build_networks
from pipelines.training.config import ImportRequest
from pipelines.training.published import (
    ImportedRun,
    State,
    check_fit,
    write_run,
)

_Rules = Sequence[tuple[str, str | None]]
_SHARED: _Rules = (
    # behind the fine code the encoder goes on to a map that nothing reads
    (r"^ed\.(fin_block|ups\.1|blocks\.3)\..*", None),
    (r"^eu\.", "appearance_maps."),
    (r"^du\.", "figure_maps."),
    (r"^ed\.make_latent_params\.", "encoder.means."),
    (r"^ed\.make_logstds\.", "encoder.log_stds."),
    (r"^ed\.ups\.0\.", "encoder.up."),
    (r"^ed\.", "encoder."),
    (r"^dd\.out_conv\.", "decoder.output."),
    (r"^dd\.", "decoder."),
    (r"^(\w+)\.nin\.", r"\1.input."),
    (r"\.(down|up)\.", "."),
    (r"\.nin\.", ".beside."),
)
_SHAPE_POSE: _Rules = (*_SHARED, (r"\.auto_blocks\.", ".code_blocks."))
_BASELINE: _Rules = (
    *_SHARED,
    (r"\.latent_nins\.l_(\d+)\.", r".code_inputs.\1."),
    (r"\.auto_lp\.l_(\d+)\.", r".priors.\1.means."),
    (r"\.auto_blocks\.l_(\d+)\.0\.", r".priors.\1.first."),
)


def import_published(request: ImportRequest, work: Work) -> dict[str, Any]:
    """Make a run folder of a published renderer or baseline, with its regressor where it is there.

    Of several checkpoints in a folder the one of the highest iteration is taken.
    """
    found = published.find_model(request.path, trust=request.trust_checkpoint, work=work)
    config = _config(found)
    convert = baseline_state if config.kind == "vunet" else shape_pose_state
    states: dict[str, State] = {"net": convert(found.net)}
    if found.regressor is not None:
        states["regressor"] = regressor_state(found.regressor)
    with torch.device("meta"):
        networks = build_networks(config)
    check_fit(networks.net, states["net"], found.files["net"])
    if "regressor" in states and networks.regressor is not None:
        check_fit(networks.regressor, states["regressor"], found.files["regressor"])
    run = ImportedRun(
        family=FAMILY,
        stage="1",
        request={
            "config": config.model_dump(mode="json"),
            "stage": "1",
            "run_dir": str(request.run_dir),
            "imported_from": str(request.path),
        },
        states=states,
        sources=list(found.files.values()),
    )
    write_run(request.run_dir, run)
    work.artifact(request.run_dir, "run")
    files = [str(path) for path in found.files.values()]
    return {"run": str(request.run_dir), "family": FAMILY, "stage": "1", "files": files}


def _config(found: published.PublishedModel) -> FamilyConfig:
    try:
        return FamilyConfig.model_validate(published.our_settings(found))
    except (ValidationError, KeyError, TypeError) as error:
        raise UserError(
            "the published settings describe no renderer",
            {
                "looked in": found.files["net"].parent,
                "reason": str(error).splitlines()[0],
                "to fix": "download the folder again",
            },
            EXIT_USAGE,
        ) from error


def shape_pose_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of ShapePoseNet."""
    return _state(state, _SHAPE_POSE)


def baseline_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of BaselineVunet."""
    counted = {_counted_from_zero(key): value for key, value in state.items()}
    return _state(counted, _BASELINE)


def regressor_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of KeypointRegressor."""
    return _state(state, ((r"^linears\.0\.", "hidden."), (r"^linears\.1\.", "output.")))


def patch_discriminator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of what patch_discriminator makes."""
    return _state(state, ((r"^model\.", ""),))


def part_discriminator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of PartDiscriminator."""
    rules: _Rules = (
        (r"^nin\.", "input."),
        (r"^feature_extractor\.", "layers."),
        (r"^classifier\.", "output."),
        (r"\.down\.", "."),
    )
    return _state(state, rules)


def _counted_from_zero(key: str) -> str:
    """The prior's later blocks, 1 to 3 in the file, under the place they have with us."""
    return re.sub(
        r"^dd\.auto_blocks\.l_(\d+)\.([1-9])\.",
        lambda found: f"dd.priors.{found[1]}.rest.{int(found[2]) - 1}.",
        key,
    )


def _state(state: Mapping[str, Tensor], rules: _Rules) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
        name, entry = norm_entry(key.removeprefix("module."), value)
        # of a plain convolution inside its layer; of an l2 layer named conv there is no second conv
        name = re.sub(r"(nin|conv|out_conv|make_\w+\.\d+)\.conv\.weight$", r"\1.weight", name)
        renamed = _renamed(name, rules)
        if renamed is not None:
            found[renamed] = entry
    return found


def _renamed(key: str, rules: _Rules) -> str | None:
    for pattern, replacement in rules:
        if replacement is None:
            if re.search(pattern, key):
                return None
        else:
            key = re.sub(pattern, replacement, key)
    return key
