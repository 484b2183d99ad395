"""The shipped tables of sources: complete, consistent, and as the publishers have it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.datasets.adopt import known_files
from pipelines.datasets.fetch_config import (
    DriveFolderSource,
    HttpSource,
    SeafileSource,
    SessionSource,
    SourceSet,
    list_weights,
    read_sources,
)
from pipelines.datasets.unpack import rule_for
from pipelines.events import UserError
from pipelines.io.fetchers.web import check_address
from pipelines.io.names import safe_parts
from tests.pipelines.datasets.fetch_cases import source_set

REPOSITORY = Path(__file__).parents[3]
CONF = REPOSITORY / "conf"
DATASETS = (
    "plants", "iper", "h36m", "taichi", "bair", "landscape", "dtdb", "kth", "deepfashion", "market",
)  # fmt: skip
WITH_TERMS = {"h36m", "iper", "deepfashion", "market", "taichi"}
EVERYTHING = [*DATASETS, *list_weights(CONF)]


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_source_set_can_be_read_and_says_what_it_is(name: str) -> None:
    sources = read_sources(CONF, name)
    assert sources.about
    assert sources.terms
    assert len(sources.citation) > 20
    assert sources.needs_acceptance == (name in WITH_TERMS)
    assert sources.selected(None), "the default part of the set is empty"
    for subset in sources.subsets:
        assert sources.selected(subset)


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_address_is_encrypted_or_its_content_is_known(name: str) -> None:
    for source in read_sources(CONF, name).sources:
        if isinstance(source, HttpSource):
            for file in source.files:
                for url in file.urls:
                    check_address(url, came_from=None, plain_http=file.plain_http)
        elif hasattr(source, "url"):
            check_address(source.url, came_from=None, plain_http=False)


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_rule_for_unpacking_has_an_archive(name: str, tmp_path: Path) -> None:
    sources = read_sources(CONF, name)
    names = [each.name for source in sources.sources for each in known_files(source, tmp_path)]
    for source in sources.sources:
        if isinstance(source, SeafileSource):
            names += [pattern.replace("*", "ip") for pattern in source.include]
    for rule in sources.unpack:
        fitting = [each for each in names if rule_for(each, [rule])]
        assert fitting, f"nothing fits {rule.match}"
        for each in fitting:
            match = re.fullmatch(rule.match, each)
            assert match is not None
            safe_parts(rule.into.format(match[0], *match.groups()).removeprefix("."))


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_two_files_of_a_part_have_the_same_name(name: str, tmp_path: Path) -> None:
    sources = read_sources(CONF, name)
    for subset in sources.subsets:
        files = [f.name for each in sources.selected(subset) for f in known_files(each, tmp_path)]
        assert len(files) == len({file.casefold() for file in files})


def test_human36m_has_all_seven_subjects_under_the_servers_numbers() -> None:
    numbers = {"S1": 1, "S5": 6, "S6": 7, "S7": 2, "S8": 3, "S9": 4, "S11": 5}
    sources = read_sources(CONF, "h36m")
    files = [f for s in sources.sources if isinstance(s, SessionSource) for f in s.files]
    assert len(files) == 35
    for file in files:
        subject = re.search(r"_(S\d+)\.tgz$", file.name)
        assert subject is not None
        assert file.query["filename"] == f"SubjectSpecific_{numbers[subject[1]]}.tgz"
        kind = file.name.removeprefix("archives/").rpartition("_S")[0]
        assert file.query["filepath"].replace("/", "_") == kind
        assert all(checksum.startswith("md5:") for checksum in file.checksums)
    checksums = [checksum for file in files for checksum in file.checksums]
    assert len(checksums) == len(set(checksums)) == 36  # two versions of Videos_S11
    assert len(sources.selected("poses")) < len(sources.selected(None))


def test_known_checksums_are_those_of_the_publishers() -> None:
    kth = read_sources(CONF, "kth").sources[0]
    assert isinstance(kth, HttpSource)
    assert sum(bool(file.checksums) for file in kth.files) == 6
    bair = read_sources(CONF, "bair").selected(None)[0]
    assert isinstance(bair, HttpSource)
    assert bair.files[0].size == 32_274_964_480
    assert bair.files[0].plain_http


def test_weights_cover_every_published_model() -> None:
    names = {name.removeprefix("weights/") for name in list_weights(CONF)}
    datasets = ("plants", "iper", "h36m", "taichi")
    assert {f"poke-{data}-{px}" for data in datasets for px in (64, 128)} <= names
    assert {f"cinn-{data}" for data in ("bair", "iper", "landscape")} <= names
    textures = ("fire", "vegetation", "clouds", "waterfall")
    assert {f"cinn-dtdb-{texture}" for texture in textures} <= names
    sets = ("bair", "taichi", "fashion", "mgif", "nemo", "vox", "kth")
    assert {f"fomm-{each}" for each in sets} <= names
    variants = ("c", "cs", "css", "css-ft-sd", "s", "sd")
    assert {"flownet2", *(f"flownet2-{each}" for each in variants)} <= names
    assert {"dti3d", "behavior", "inbetween-bair", "inbetween-kth", "i3d-tf"} <= names
    assert {"i3d-torch", "fid-inception", "poke-successor"} <= names
    assert {"vgg16", "vgg19", "raft-large", "raft-small"} <= names


def test_weights_of_estimators_of_flow_have_the_names_that_they_look_for() -> None:
    from pipelines.flow.config import WEIGHTS_FILES

    for estimator, name in WEIGHTS_FILES.items():
        source = read_sources(CONF, f"weights/{estimator}").sources[0]
        files = getattr(source, "files", None) or (getattr(source, "file"),)  # noqa: B009
        assert [file.name for file in files] == [name]


def test_folder_patterns_find_the_published_layout() -> None:
    from fnmatch import fnmatch

    source = read_sources(CONF, "weights/cinn-dtdb-fire").sources[0]
    assert isinstance(source, DriveFolderSource)
    for name in ("DTDB/fire/stage1/config_stage1.yaml", "models/DTDB/fire/stage2/cINN.pth"):
        assert any(fnmatch(name, pattern) for pattern in source.include)
        assert re.sub(f"^(?:{source.strip})", "", name).startswith("stage")
    other = "models/DTDB/clouds/stage1/config_stage1.yaml"
    assert not any(fnmatch(other, pattern) for pattern in source.include)


@pytest.mark.parametrize("name", ["kht", "weights/cinn-landscap"])
def test_a_misspelt_name_gets_its_neighbour(name: str) -> None:
    with pytest.raises(UserError) as caught:
        read_sources(CONF, name)
    assert caught.value.exit_code == 2
    assert caught.value.details["did you mean"] in ("kth", "weights/cinn-landscape")


def test_a_mistake_in_a_table_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    text = (CONF / "datasets" / "bair.yaml").read_text().replace("sha256:c6f8", "sha256:zz")
    (tmp_path / "datasets" / "bair.yaml").write_text(text)
    with pytest.raises(UserError, match=r"bair\.yaml: sources\.0\.https\.files\.0\.checksums\.0"):
        read_sources(tmp_path, "bair")


@pytest.mark.parametrize(
    "file",
    [
        {"name": "../a", "urls": ["https://example.org/a"]},
        {"name": "/a", "urls": ["https://example.org/a"]},
        {"name": "a", "urls": []},
        {"name": "a", "urls": ["http://example.org/a"], "plain_http": True},
        {"name": "a", "urls": ["x"], "plain_http": True, "checksums": ["sha1:" + "0" * 40]},
        {"name": "a", "urls": ["x"], "plain_http": True, "checksums": ["sha256:01234567"]},
        {"name": "a", "urls": ["https://example.org/a"], "checksums": ["sha256:0123"]},
        {"name": "a", "urls": ["https://example.org/a"], "color": "red"},
    ],
)
def test_unsafe_or_unknown_settings_are_refused(file: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        source_set({"kind": "https", "files": [file]})


def test_a_source_set_survives_the_way_through_a_job_file() -> None:
    sources = read_sources(CONF, "h36m")
    assert SourceSet.model_validate_json(sources.model_dump_json()) == sources


def test_the_tables_can_be_read_without_heavy_imports() -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from pipelines.datasets.fetch_config import read_sources\n"
        "read_sources(Path('conf'), 'kth')\n"
        "print([name for name in ('numpy', 'torch', 'httpx', 'gdown', 'yt_dlp')"
        " if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
