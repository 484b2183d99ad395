from __future__ import annotations

import json

import pytest

from pipelines.report.curves import charts, training_seconds


def metric(step: int, **values: float | None) -> dict:
    return {"event": "metric", "step": step, "values": values}


def lines(events: list[dict]) -> dict[str, dict[str, tuple[list, list]]]:
    return {
        chart.name: {each.role: (each.steps, each.values) for each in chart.series}
        for chart in charts(events)
    }


def test_each_number_becomes_a_line_over_its_steps():
    found = lines([metric(1, loss=3.0), {"event": "log", "text": "x"}, metric(2, loss=2.0)])
    assert found == {"loss": {"training": ([1, 2], [3.0, 2.0])}}


def test_held_out_and_baseline_numbers_share_the_chart_of_the_training_number():
    found = lines([metric(1, psnr=20.0), metric(2, val_psnr=19.0, val_psnr_static=15.0)])
    assert found == {
        "psnr": {
            "training": ([1], [20.0]),
            "held-out": ([2], [19.0]),
            "reference": ([2], [15.0]),
        }
    }


def test_speed_comes_last():
    found = charts([metric(1, seconds_per_step=0.1, loss=1.0)])
    assert [each.title for each in found] == ["loss", "seconds per step"]


def test_steps_repeated_after_a_resume_show_the_later_numbers():
    first_try = [metric(step, loss=float(step)) for step in (1, 2, 3, 4)]
    resumed = [metric(step, loss=10.0 * step) for step in (3, 4, 5)]
    assert lines(first_try + resumed)["loss"]["training"] == (
        [1, 2, 3, 4, 5],
        [1.0, 2.0, 30.0, 40.0, 50.0],
    )


def test_a_number_that_was_not_finite_is_a_gap():
    found = lines([metric(1, loss=1.0), metric(2, loss=None), metric(3, loss=2.0)])
    assert found["loss"]["training"][1] == [1.0, None, 2.0]


def test_long_records_are_thinned_to_means_that_end_at_the_last_step():
    events = [metric(step, loss=float(step % 2)) for step in range(1, 5001)]
    steps, values = lines(events)["loss"]["training"]
    assert len(steps) <= 1000
    assert steps[-1] == 5000
    assert sum(values) / len(values) == pytest.approx(0.5, abs=0.01)


def test_training_time_adds_up_the_steps_of_all_records():
    events = [
        metric(10, seconds_per_step=0.5),
        metric(20, val_loss=1.0),
        metric(30, seconds_per_step=1.0),
    ]
    assert training_seconds(events) == pytest.approx(10 * 0.5 + 20 * 1.0)
    assert training_seconds([metric(1, loss=1.0)]) is None


def test_charts_are_json_without_nan():
    text = json.dumps([each.to_json() for each in charts([metric(1, loss=None)])], allow_nan=False)
    assert json.loads(text)[0]["series"][0]["values"] == [None]
