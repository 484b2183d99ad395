"""Published entries become ours, and files of something else are refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.flownet2.cascade import build
from pipelines.flownet2.checkpoint import flownet2_key, flownet2_state, network_of, unwrapped
from pipelines.flownet2.config import NETWORKS
from pipelines.flownet2.estimate import FlowNet2Estimator
from tests.pipelines.flownet2.weights import published_shapes, published_state, write_published


@pytest.mark.parametrize("network", NETWORKS)
def test_every_published_entry_has_its_place(network: str) -> None:
    published = published_shapes(network)
    assert network_of(published) == network
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in build(network).state_dict().items()}
    assert {flownet2_key(key, network=network): shape for key, shape in published.items()} == ours


def test_weights_of_another_variant_are_named() -> None:
    state = {name: torch.zeros(()) for name in published_shapes("flownet2-cs")}
    with pytest.raises(UserError, match="are of FlowNet2-CS, not of FlowNet2-CSS") as caught:
        flownet2_state(state, network="flownet2-css")
    assert caught.value.details["to fix"] == (
        "choose flownet2-cs, or give FlowNet2-CSS_checkpoint.pth.tar"
    )


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(UserError, match="not of a FlowNet2 network"):
        network_of(["fnet.conv1.weight", "update_block.encoder.convc1.weight"])
    with pytest.raises(UserError, match="not of a FlowNet2 network") as caught:
        flownet2_key("flownets_9.conv1.0.weight", network="flownet2-cs")
    assert "flownets_9" in caught.value.details["unknown entry"]


def test_the_prefix_of_a_wrapper_for_several_devices_is_taken_off() -> None:
    state = {f"module.{name}": torch.zeros(()) for name in published_shapes("flownet2-sd")}
    assert network_of(unwrapped(state)) == "flownet2-sd"


def test_a_file_of_another_variant_is_refused_before_anything_runs(flownet2_c_path: Path) -> None:
    with pytest.raises(UserError, match="are of FlowNet2-C, not of FlowNet2-S"):
        FlowNet2Estimator(flownet2_c_path, "flownet2-s")


def test_an_incomplete_file_says_what_is_missing(tmp_path: Path) -> None:
    state = published_state("flownet2-c")
    kept = {name: state[name] for name in ("conv_redir.0.weight", "conv1.0.weight")}
    path = write_published(tmp_path / "c.pth.tar", kept)
    with pytest.raises(UserError) as caught:
        FlowNet2Estimator(path)
    assert "missing" in caught.value.details["reason"]


def test_a_torn_file_is_an_error_with_its_name(tmp_path: Path, flownet2_c_path: Path) -> None:
    path = tmp_path / "torn.pth.tar"
    with flownet2_c_path.open("rb") as stream:
        path.write_bytes(stream.read(1_000_000))
    with pytest.raises(UserError, match=r"torn\.pth\.tar") as caught:
        FlowNet2Estimator(path)
    assert caught.value.exit_code == EXIT_NO_DATA
