"""`i2v download` before a worker starts: names, terms, what belongs to what, what help promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from i2v_cli import published
from i2v_cli.app import main
from i2v_cli.registry import DATASETS
from tests.cli.checkouts import ROOT

DATASETS_TO_FETCH = [name for name in DATASETS if name not in ("synthetic", "custom")]


def test_every_published_dataset_can_be_fetched_and_is_named_in_the_help(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published.dataset_names() == DATASETS_TO_FETCH
    main(["download", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in DATASETS_TO_FETCH)


@pytest.mark.parametrize("name", [*DATASETS_TO_FETCH, "weights/cinn-landscape"])
def test_a_dry_run_names_files_and_place_before_there_is_an_environment(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", name, "--dry-run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    folder = here / "data" / name if "/" in name else here / "data" / name / "raw"
    assert list(result["outputs"].values()) == [str(folder)]
    assert result["request"]["dry_run"] is True
    assert main(["download", name, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"# would run: download {name}"
    assert lines[3].split() == ["file", "size", "state"]
    assert len(lines) > 4
    assert not (here / "data").exists()


def test_terms_are_shown_and_have_to_be_accepted_where_they_must_be(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("h36m", "iper", "deepfashion", "market", "taichi"):
        assert main(["download", name]) == 2
        said = capsys.readouterr().err
        assert "\n  terms " in said
        assert "\n  please cite " in said
        assert said.endswith(f"to fix         i2v download {name} --accept-terms\n")
    assert not list(here.iterdir())


@pytest.mark.parametrize("word", ["weights", "weights/"])
def test_weights_are_listed(word: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", word]) == 0
    printed = capsys.readouterr()
    names = [line.split()[0] for line in printed.out.splitlines()[1:]]
    assert {"weights/cinn-landscape", "weights/poke-plants-64", "weights/vgg16"} <= set(names)
    assert len(names) > 35
    assert printed.err == "next: i2v download weights/poke-plants-128\n"


def test_settings_of_the_network_can_be_given_and_a_misspelt_one_is_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["download", "kth", "--dry-run", "--json"]
    assert main([*words, "network.attempts=9"]) == 0
    request = json.loads(capsys.readouterr().out)["result"]["request"]
    assert request["network"]["attempts"] == 9
    assert main([*words, "network.attemts=9"]) == 2
    assert "did you mean 'attempts'" in capsys.readouterr().err


def test_a_file_may_name_other_servers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = here / "mirror.yaml"
    mirror.write_text(
        "sources:\n"
        "  sources:\n"
        "    - {kind: https, files: [{name: a.zip, urls: ['https://mirror.example.org/a.zip']}]}\n"
    )
    words = ["download", "kth", "--config", str(mirror), "--dry-run", "--json"]
    assert main(words) == 0
    sources = json.loads(capsys.readouterr().out)["result"]["request"]["sources"]
    assert [file["name"] for file in sources["sources"][0]["files"]] == ["a.zip"]
    assert sources["terms"] == "free for non-commercial research"


def test_help_costs_no_heavy_import() -> None:
    code = (
        "import sys\n"
        "from i2v_cli.app import main\n"
        "main(['download', '--help'])\n"
        "heavy = {'numpy', 'httpx', 'pydantic', 'rich', 'yaml', 'gdown'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
