"""Kinds of errors by hand, one of each, and what mending them is worth."""

import numpy as np
import pytest

from simengine.dtn.coco import Found, Objects
from simengine.dtn.errors import error_table, picture_errors


def box(x: float, width: float = 10.0) -> list[float]:
    return [x, 0.0, x + width, 10.0]


OBJECTS = Objects(np.array([box(0), box(100), box(200), box(300)]), np.array([1, 1, 1, 2]))


def found(*rows: tuple[float, float, int, float]) -> Found:
    """Detections (x, width, label, score)."""
    return Found(
        np.array([box(r[0], r[1]) for r in rows]), np.array([r[2] for r in rows]), np.array([r[3] for r in rows])
    )


def test_one_of_each_kind() -> None:
    seen = found(
        (0, 10, 1, 0.9),  # right
        (0, 9, 1, 0.8),  # the same object again
        (106, 10, 1, 0.7),  # overlaps 4 of 16: .25
        (300, 10, 1, 0.6),  # where an object of class 2 is
        (306, 10, 1, 0.5),  # by .25, one of class 2
        (500, 10, 1, 0.4),  # nothing is there
    )
    errors = picture_errors(seen, OBJECTS)
    assert errors.kind.tolist() == ["", "duplicate", "loose", "class", "both", "alarm"]
    assert errors.cause.tolist() == [-1, 0, 1, 3, 3, -1]
    assert errors.had.tolist() == [True, False, False, False]
    assert errors.missed.tolist() == [False, False, True, False]
    table = error_table([seen], [OBJECTS])
    assert table.count == {"class": 1, "loose": 1, "both": 1, "duplicate": 1, "alarm": 1, "missed": 1}


def test_an_object_seen_as_another_class_and_elsewhere_is_missed() -> None:
    errors = picture_errors(found((306, 10, 1, 0.5)), OBJECTS)
    assert errors.kind.tolist() == ["both"] and errors.cause.tolist() == [3] and errors.missed.all()
    loose = picture_errors(found((306, 10, 2, 0.5)), OBJECTS)
    assert loose.kind.tolist() == ["loose"] and loose.missed.tolist() == [True, True, True, False]


def test_costs_by_hand() -> None:
    # One class, two objects. Points of recall of 101: up to 1/2 there are 51, above 50.
    objects = Objects(np.array([box(0), box(100)]), np.array([1, 1]))
    alarm = error_table([found((500, 10, 1, 0.9), (0, 10, 1, 0.8), (100, 10, 1, 0.7))], [objects])
    assert alarm.precision == pytest.approx(2 / 3) and alarm.cost["alarm"] == pytest.approx(1 / 3)
    assert all(value == pytest.approx(0.0) for name, value in alarm.cost.items() if name != "alarm")
    missed = error_table([found((0, 10, 1, 0.8))], [objects])
    assert missed.precision == pytest.approx(51 / 101) and missed.cost["missed"] == pytest.approx(50 / 101)
    loose = error_table([found((0, 10, 1, 0.8), (106, 10, 1, 0.7))], [objects])
    assert loose.cost["loose"] == pytest.approx(50 / 101) and loose.cost["missed"] == 0.0 and loose.count["missed"] == 0
    wrong = error_table([found((0, 10, 1, 0.8), (100, 10, 2, 0.7))], [objects])
    assert wrong.cost["class"] == pytest.approx(50 / 101)
    twice = error_table([found((0, 10, 1, 0.8), (0, 10, 1, 0.7), (100, 10, 1, 0.6))], [objects])
    assert twice.cost["duplicate"] == pytest.approx(50 / 101 / 3)  # precision 2/3 above recall 1/2


def test_a_mended_detection_does_not_find_an_object_twice() -> None:
    objects = Objects(np.array([box(0), box(100)]), np.array([1, 1]))
    seen = found((0, 10, 1, 0.9), (6, 10, 1, 0.8), (100, 10, 1, 0.7))  # the loose box's object is found already
    table = error_table([seen], [objects])
    assert table.count["loose"] == 1 and table.precision + table.cost["loose"] == pytest.approx(1.0)


def test_a_perfect_set_has_no_error_and_a_crowd_excuses() -> None:
    objects = Objects(np.array([box(0), box(100, 100)]), np.array([1, 1]), crowd=np.array([False, True]))
    table = error_table([found((0, 10, 1, 0.9), (110, 10, 1, 0.8), (120, 10, 1, 0.7))], [objects])
    assert sum(table.count.values()) == 0 and table.precision == pytest.approx(1.0)
