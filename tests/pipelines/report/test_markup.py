from __future__ import annotations

import json
import re

from pipelines.report.markup import Html, element, embedded_json, join

NASTY = "</script><script>alert('x')</script> & \"quoted\""


def test_text_and_attributes_are_escaped():
    found = element("p", NASTY, title=NASTY)
    assert "<script" not in found
    assert found.count('"') == 2  # those around the attribute


def test_elements_nest_without_being_escaped_twice():
    assert element("p", element("b", "a & b")) == "<p><b>a &amp; b</b></p>"


def test_attributes_that_are_true_stand_alone_and_absent_ones_vanish():
    found = element("video", loop=True, muted=False, src=None, class_="x", aria_label="y")
    assert found == '<video loop class="x" aria-label="y"></video>'


def test_json_in_a_page_cannot_end_its_element_and_reads_back():
    found = embedded_json({NASTY: [NASTY, "<!--", "\u2028"]}, id_="data")
    content = re.fullmatch(r'<script type="application/json" id="data">(.*)</script>', found)[1]
    assert "<" not in content
    assert json.loads(content) == {NASTY: [NASTY, "<!--", "\u2028"]}


def test_only_what_was_made_as_html_is_taken_as_html():
    assert join(Html("<br>"), "<br>", ["<i>"]) == "<br>&lt;br&gt;&lt;i&gt;"
