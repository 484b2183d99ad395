"""Published key names -> ours: pure functions on state dicts (spec: flow, 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from pipelines.events import UserError
from pipelines.flownet2.config import NETWORKS

State = dict[str, Tensor]

_PARTS = {
    "flownetc": "c",
    "flownets_1": "s1",
    "flownets_2": "s2",
    "flownets_d": "sd",
    "flownetfusion": "fusion",
}
_SIGNS = (  # an entry that only this network, and those before it, have
    ("flownetfusion.predict_flow0.weight", "flownet2"),
    ("flownets_2.conv1.0.weight", "flownet2-css"),
    ("flownets_1.conv1.0.weight", "flownet2-cs"),
    ("conv0.0.weight", "flownet2-sd"),
    ("conv_redir.0.weight", "flownet2-c"),
    ("predict_flow2.weight", "flownet2-s"),
)
_RULES = (
    (r"conv_redir\.", "redirect."),
    (r"conv(\d)\.", r"stages.\1.0."),
    (r"conv(\d)_1\.", r"stages.\1.1."),
    (r"deconv(\d)\.", r"refinement.deconv.\1."),
    (r"inter_conv(\d)\.0\.", r"refinement.smooth.\1."),
    (r"predict_flow(\d)\.", r"refinement.predict.\1."),
    (r"upsampled_flow\d_to_(\d)\.", r"refinement.upsample.\1."),
)
_C_RULES = ((r"conv3_1\.", "merge."),)


def unwrapped(published: Mapping[str, Tensor]) -> State:
    """The state dict without the `module.` that a wrapper for several devices leaves."""
    return {key.removeprefix("module."): value for key, value in published.items()}


def network_of(keys: Iterable[str]) -> str:
    """The variant, by its name in config.NETWORKS, that published entries belong to.

    Raises UserError when they are of no FlowNet2.
    """
    present = set(keys)
    for sign, network in _SIGNS:
        if sign in present:
            return network
    raise UserError(
        "the checkpoint is not of a FlowNet2 network",
        {
            "its first entry": next(iter(sorted(present)), "none"),
            "to fix": "give a file of i2v download weights/flownet2",
        },
    )


def flownet2_state(published: Mapping[str, Tensor], *, network: str) -> State:
    """State dict of `cascade.build(network)` from the published one.

    Raises UserError when the entries are of another network than the one that is wanted.
    """
    found = network_of(published)
    if found != network:
        raise UserError(
            f"the weights are of {NETWORKS[found].title}, not of {NETWORKS[network].title}",
            {"to fix": f"choose {found}, or give {NETWORKS[network].weights_file}"},
        )
    return {flownet2_key(key, network=network): value for key, value in published.items()}


def flownet2_key(key: str, *, network: str) -> str:
    """Our name of one published entry of a variant."""
    parts = NETWORKS[network].parts
    if not NETWORKS[network].is_cascade:
        return f"network.{_part_key(key, part=parts[0])}"
    prefix, _, rest = key.partition(".")
    part = _PARTS.get(prefix)
    if part not in parts:
        raise _unknown(key)
    return f"{part}.{_part_key(rest, part=part)}"


def _part_key(key: str, *, part: str) -> str:
    for pattern, replacement in (_C_RULES if part == "c" else ()) + _RULES:
        found = re.match(pattern, key)
        if found:
            return found.expand(replacement) + key[found.end() :]
    raise _unknown(key)


def _unknown(key: str) -> UserError:
    return UserError(
        "the checkpoint is not of a FlowNet2 network",
        {"unknown entry": key, "to fix": "give a file of i2v download weights/flownet2"},
    )
