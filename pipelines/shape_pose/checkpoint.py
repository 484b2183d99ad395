"""Published names of weights -> ours (spec: behavior, 2.4 to 2.8). Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from pipelines.nn.norm_conv import norm_entry

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


def shape_pose_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of ShapePoseNet."""
    return _state(published, _SHAPE_POSE)


def baseline_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of BaselineVunet."""
    counted = {_counted_from_zero(key): value for key, value in published.items()}
    return _state(counted, _BASELINE)


def regressor_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of KeypointRegressor."""
    return _state(published, ((r"^linears\.0\.", "hidden."), (r"^linears\.1\.", "output.")))


def patch_discriminator_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of what patch_discriminator makes."""
    return _state(published, ((r"^model\.", ""),))


def part_discriminator_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of PartDiscriminator."""
    rules: _Rules = (
        (r"^nin\.", "input."),
        (r"^feature_extractor\.", "layers."),
        (r"^classifier\.", "output."),
        (r"\.down\.", "."),
    )
    return _state(published, rules)


def _counted_from_zero(key: str) -> str:
    """The prior's later blocks, 1 to 3 in the file, under the place they have with us."""
    return re.sub(
        r"^dd\.auto_blocks\.l_(\d+)\.([1-9])\.",
        lambda found: f"dd.priors.{found[1]}.rest.{int(found[2]) - 1}.",
        key,
    )


def _state(published: Mapping[str, Tensor], rules: _Rules) -> dict[str, Tensor]:
    found = {}
    for key, value in published.items():
        name, entry = norm_entry(key.removeprefix("module."), value)
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
