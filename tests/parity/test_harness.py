"""The harness itself: it must notice a wrong number, and say what it cannot interpret."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity import fill
from tests.parity.harness import (
    Case,
    CaseError,
    adapter_for,
    built,
    find_cases,
    parse_slice,
    relative_error,
)


def write_case(folder: Path, *, arrays: dict[str, np.ndarray], **document: object) -> Path:
    path = folder / "some_family" / "case.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    complete = {"tag": "t", "outputs": {"y": {"what": "y"}}, "tolerance": 0.01, **document}
    path.write_text(json.dumps(complete))
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **arrays)
    return path


@pytest.mark.parametrize(
    "written",
    [
        "[:, ::2, 1]",
        ":, ::2, 1",
        [[None], [None, None, 2], [1, 2]],
    ],
)
def test_slices_are_read_in_every_form(written: str | list) -> None:
    index = parse_slice(written)
    value = np.arange(60).reshape(3, 4, 5)
    expected = value[:, ::2, 1]
    assert np.array_equal(value[index].reshape(expected.shape), expected)


def test_slices_with_index_lists_and_ellipsis() -> None:
    value = np.arange(60).reshape(3, 4, 5)
    assert np.array_equal(value[parse_slice("[..., [0,3]]")], value[..., [0, 3]])
    assert parse_slice(None) is None


def test_slice_is_never_evaluated() -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_slice("[__import__('os').getcwd()]")


def test_error_is_relative_to_the_largest_reference_value() -> None:
    reference = np.array([0.0, -4.0])
    assert relative_error(np.array([1.0, -4.0]), reference) == 0.25
    assert relative_error(np.array([0.5]), np.array([0.0])) == 0.5
    assert relative_error(np.array([np.nan, 1.0]), reference) == float("inf")
    nan = np.array([np.nan, 2.0])
    assert relative_error(nan, nan) == 0.0


def test_a_wrong_number_does_not_agree(tmp_path: Path) -> None:
    case = Case(write_case(tmp_path, arrays={"y": np.array([1.0, 2.0])}))
    (right,) = case.compare({"y": torch.tensor([1.0, 2.019])})
    (wrong,) = case.compare({"y": torch.tensor([1.0, 2.021])})
    assert right.agrees
    assert not wrong.agrees


def test_a_missing_output_and_a_wrong_shape_are_errors(tmp_path: Path) -> None:
    case = Case(write_case(tmp_path, arrays={"y": np.zeros((2, 3))}))
    with pytest.raises(CaseError, match="returned no y"):
        case.compare({"x": 1.0})
    with pytest.raises(CaseError, match=r"shape \(3, 2\)"):
        case.compare({"y": np.zeros((3, 2))})


def test_state_is_filled_overridden_scaled_and_refreshed_in_that_order(tmp_path: Path) -> None:
    path = write_case(
        tmp_path,
        arrays={"y": np.zeros(1)},
        state=[
            ["a.weight_orig", [3, 2, 2], "float32"],
            ["a.weight_u", [3], "float32"],
            ["a.weight_v", [4], "float32"],
            ["a.bias", [3], "float32"],
            ["a.forward_shuffle_idx", [5], "int64"],
            ["a.backward_shuffle_idx", [5], "int64"],
            ["b.weight", [2], "float32"],
        ],
        overrides={"a.bias": 2.0},
        scaled={"a.bias": 3.0},
        permutations=["a.forward_shuffle_idx"],
        spectral_refresh=1,
    )
    state = Case(path).state("a.")
    assert "weight" not in state
    assert state["bias"].tolist() == [6.0, 6.0, 6.0]
    forward, backward = state["forward_shuffle_idx"], state["backward_shuffle_idx"]
    assert forward[backward].tolist() == list(range(5))
    matrix = torch.from_numpy(fill.weight("t", "a.weight_orig", (3, 2, 2))).flatten(1)
    left = matrix @ state["weight_v"]
    torch.testing.assert_close(state["weight_u"], left / left.norm())
    with pytest.raises(CaseError, match="starts with 'c'"):
        Case(path).state("c")


def test_inputs_are_generated_or_taken_from_the_file(tmp_path: Path) -> None:
    stored = np.arange(3, dtype=np.float32)
    path = write_case(
        tmp_path,
        arrays={"y": np.zeros(1), "input_a": stored, "input.b": stored + 1, "c": stored + 2},
        inputs=[["a", "stored"], ["b", [3], "stored"], ["c", "stored"], ["d", [2], -1, 1]],
    )
    inputs = Case(path).inputs
    assert [inputs[name][0].item() for name in "abc"] == [0, 1, 2]
    assert inputs["d"].numpy() == pytest.approx(fill.inputs("t", "d", (2,)))


def test_networks_of_one_case_have_their_own_config_and_state(tmp_path: Path) -> None:
    networks = [
        {"network": "first", "config": {"n": 1}, "state": [["w.bias", [2], "float32"]]},
        {"network": "second", "config": {"n": 2}, "state": [["v.bias", [2], "float32"]]},
    ]
    case = Case(write_case(tmp_path, arrays={"y": np.zeros(1)}, networks=networks))
    assert [network.name for network in case.networks] == ["first", "second"]
    assert case.networks[1].config == {"n": 2}
    assert list(case.networks[1].state()) == ["v.bias"]


def test_what_cannot_be_interpreted_is_named(tmp_path: Path) -> None:
    path = write_case(tmp_path, arrays={"y": np.zeros(1)}, network_id="unheard_of")
    assert find_cases(tmp_path, only_supported=True) == []
    assert find_cases(tmp_path, only_supported=False) == [("some_family", path)]
    with pytest.raises(CaseError, match="no adapters for the family 'some_family'"):
        adapter_for("some_family", Case(path))
    with pytest.raises(CaseError, match="no adapter for 'unheard_of'"):
        adapter_for("cinn", Case(path))


def test_a_network_is_built_only_from_a_complete_state() -> None:
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    network = built(lambda: torch.nn.Linear(3, 2), state)
    assert network(torch.ones(1, 3)).tolist() == [[3.0, 3.0]]
    with pytest.raises(RuntimeError, match="bias"):
        built(lambda: torch.nn.Linear(3, 2), {"weight": torch.ones(2, 3)})
