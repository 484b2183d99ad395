"""Files are known by their first bytes, and a page is never taken for anything else."""

from __future__ import annotations

import pytest

from pipelines.io.signatures import kind_of, misfit
from tests.pipelines.io.archive_makers import honest_tar, honest_zip

STARTS = {
    "zip": honest_zip({"a": b"1"}),
    "gzip": honest_tar({"a": b"1"}),
    "tar": honest_tar({"a": b"1"}, mode="w"),
    "split zip": b"PK\x07\x08PK\x03\x04",
    "mp4": b"\x00\x00\x00\x18ftypmp42",
    "matroska": b"\x1a\x45\xdf\xa3\x01",
    "avi": b"RIFF\x00\x01\x02\x03AVI LIST",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "pickle": b"\x80\x02}q\x00",
}
PAGES = (
    b"<!DOCTYPE html><html>",
    b"\xef\xbb\xbf<html lang='en'>",
    b"\r\n\r\n  <HTML>",
    b"<!-- saved --><html>",
    b"<script>location='/login'</script>",
)


@pytest.mark.parametrize("kind", STARTS)
def test_each_kind_is_told_by_its_beginning(kind: str) -> None:
    assert kind_of(STARTS[kind][:512]) == kind


@pytest.mark.parametrize("start", [b"", b"\x00" * 512, b"0,1\n", b"RIFF\x00\x01\x02\x03WAVE"])
def test_anything_else_is_unknown(start: bytes) -> None:
    assert kind_of(start) is None


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", ["a.zip", "a.tfrecords", "a.csv", "a.txt", "a.pth", "noname"])
def test_a_page_fits_no_name(name: str, page: bytes) -> None:
    assert misfit(name, page) == "a web page"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.zip", "zip"),
        ("a.z01", "split zip"),
        ("a.tgz", "gzip"),
        ("a.tar.gz", "gzip"),
        ("a.TAR", "tar"),
        ("a.pth.tar", "zip"),
        ("a.pth.tar", "pickle"),
        ("a.pth", "tar"),
        ("a.mp4", "mp4"),
        ("a.mkv", "matroska"),
        ("a.avi", "avi"),
        ("a.h5", "hdf5"),
    ],
)
def test_a_name_wants_its_kind_and_no_other(name: str, kind: str) -> None:
    assert misfit(name, STARTS[kind][:512]) is None
    other = "avi" if kind != "avi" else "mp4"
    assert misfit(name, STARTS[other][:512]) == other
    assert misfit(name, STARTS[other][:512], kinds=(other,)) is None
    assert misfit(name, STARTS[other][:512], kinds=()) is None


def test_an_answer_in_xml_is_not_data_but_may_be_text() -> None:
    error = b"<?xml version='1.0'?><Error>AccessDenied</Error>"
    assert misfit("traj_0_to_255.tfrecords", error) == "a web page or XML"
    assert misfit("metadata.txt", error) is None
