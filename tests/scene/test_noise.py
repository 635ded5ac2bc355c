"""Noise, losses with tails and what is held out, by their formulas."""

import math

import pytest
import torch

from simengine.scene.noise import HoldOut, Loss, Noise, held_out, loss_of

D = torch.float64


def test_noise_adds_in_squares_and_has_a_floor() -> None:
    values = torch.tensor([0.0, -10.0, 30.0], dtype=D)
    assert Noise(absolute=3.0, relative=0.4).of(values).tolist() == pytest.approx([3.0, 5.0, math.sqrt(153)])
    assert Noise(relative=0.1, floor=2.0).of(values).tolist() == pytest.approx([2.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="expected relative, absolute or floor above 0"):
        Noise()


def test_losses_have_their_tails() -> None:
    """Huber (1964): r^2 up to k, then 2 k |r| - k^2; Student: nu log(1 + r^2/nu), both squares near zero."""
    r = torch.tensor([-6.0, -2.0, -0.5, 0.0, 1e-7, 1e-3, 1.0, 2.0, 5.0], dtype=D, requires_grad=True)
    k = 2.0
    shaped = Loss(huber=k).shaped(r)
    assert (shaped.sign() == r.sign()).all()
    expected = [v * v if abs(v) <= k else 2 * k * abs(v) - k * k for v in r.tolist()]
    assert shaped.square().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-18)
    (slope,) = torch.autograd.grad(shaped.square().sum() / 2, r)
    assert slope.tolist() == pytest.approx([max(-k, min(k, v)) for v in r.tolist()], abs=1e-12)
    for nu in (1.0, 4.0):
        heavy = Loss(student=nu).shaped(r)
        assert heavy.square().tolist() == pytest.approx([nu * math.log1p(v * v / nu) for v in r.tolist()], rel=1e-9)
    usual = loss_of("huber"), loss_of("student"), loss_of("square")
    assert usual == (Loss(huber=1.345), Loss(student=4.0), None)
    for wrong in ({}, {"huber": 1.0, "student": 2.0}):
        with pytest.raises(ValueError, match="expected one of huber and student"):
            Loss(**wrong)


def rows(spec, **more) -> list[int]:
    at = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], dtype=D)
    found = held_out(spec, ("p", "q"), more.pop("abscissa", at), (5, 2), **more)
    assert found.shape == (5, 2)
    return [k for k in range(5) if bool(found[k].all())]


def test_what_is_held_out() -> None:
    """A cut of 0.25 of 0 to 4 leaves out what lies beyond 3; groups in alphabetical order, every second of four."""
    assert rows(True) == [0, 1, 2, 3, 4] and rows(False) == []
    assert rows(0.25) == [4] and rows(0.5) == [3, 4] and rows(HoldOut(after=1.0)) == [2, 3, 4]
    assert rows(HoldOut(rows=(0, -1))) == [0, 4] and rows(HoldOut(rows="1:3")) == [1, 2]
    assert rows(HoldOut(rows=(0,), after=3.0)) == [0, 4]
    column = held_out(HoldOut(values=("q",)), ("p", "q"), None, (5, 2))
    assert column.tolist() == [[False, True]] * 5
    groups = ["d", "a", "c", "b", "a"]
    assert rows(HoldOut(by="g", share=0.5), cells=groups) == [0, 3]  # b and d
    assert rows(HoldOut(by="g", share=0.25), cells=groups) == [0] and rows(
        HoldOut(by="g", groups=("a",)), cells=groups
    ) == [1, 4]
    pictures = held_out(HoldOut(files=("two",)), ("p",), None, (6, 1), files=("one", "two", "three"))
    assert pictures[:, 0].tolist() == [False, False, True, True, False, False]
    for spec, word, more in (
        (HoldOut(rows=(5,)), "no row 5 among 5", {}),
        (HoldOut(rows=(-6,)), "no row -6 among 5", {}),
        (HoldOut(rows="3:3"), "first:end", {}),
        (HoldOut(values=("r",)), "'r' is not measured", {}),
        (HoldOut(files=("x",)), "no file of this series", {}),
        (HoldOut(by="g", groups=("z",)), "no row of 'g' is 'z'", {"cells": groups}),
        (HoldOut(by="g", share=0.1), "is none; name them", {"cells": groups}),
        (0.5, "no abscissa to cut", {"abscissa": None}),
    ):
        with pytest.raises(ValueError, match=word):
            rows(spec, **more)
