"""Weights in the files they are published in, read without running what is in those files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.events import UserError
from pipelines.features import generated_weights
from pipelines.features.i3d import I3d
from pipelines.features.i3d_checkpoint import i3d_state
from pipelines.features.tensorflow_checkpoint import read_tensorflow_weights
from pipelines.features.torchscript_weights import is_torchscript, read_torchscript_weights


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv3d_1a_7x7 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3d_1a_7x7(x)


@pytest.fixture
def script(tmp_path: Path) -> tuple[Path, nn.Module]:
    network = Small().eval()
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save(str(path))
    return path, network


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit.*")
def test_a_torchscript_file_gives_the_state_dict_of_its_module(script) -> None:
    path, network = script
    assert is_torchscript(path)
    found = read_torchscript_weights(path)
    for name, tensor in network.state_dict().items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit.*")
def test_a_torchscript_file_that_asks_for_more_is_refused(tmp_path, script) -> None:
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    path, _ = script
    changed = tmp_path / "evil.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            is_pickle = name.endswith("/data.pkl")
            target.writestr(name, pickle.dumps(Evil()) if is_pickle else source.read(name))
    with pytest.raises(UserError, match="cannot be read") as error:
        read_torchscript_weights(changed)
    assert "print" in error.value.details["reason"]


def test_a_plain_state_dict_is_not_taken_for_torchscript(tmp_path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    assert not is_torchscript(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_an_index_that_is_none_is_named(tmp_path, content: bytes) -> None:
    (tmp_path / "variables.index").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as error:
        read_tensorflow_weights(tmp_path / "variables")
    assert "variables.index" in error.value.details["file"]


def test_made_up_weights_are_the_same_everywhere_and_fit_the_network() -> None:
    variables = generated_weights.i3d_variables(num_classes=18)
    again = generated_weights.i3d_variables(num_classes=18)
    assert generated_weights.digest(variables) == generated_weights.digest(again)
    state = i3d_state({name: torch.from_numpy(each) for name, each in variables.items()})
    with torch.device("meta"):
        network = I3d(num_classes=18)
    network.load_state_dict(state, assign=True)
