"""Addresses: every number of a tree by name, replaced with floats or tensors."""

import pytest
import torch

from simengine.scene import SceneError, load_world, named_scenes
from simengine.scene.address import floats_in, named, numbers, parts_of, replaced, resolve, tensors_in
from simengine.worlds.learned.populations import AbstractPopulation


@pytest.mark.parametrize("name", sorted(named_scenes()))
def test_every_number_can_be_read_and_replaced(name: str) -> None:
    world = load_world(name)
    table = numbers(world)
    assert table or isinstance(world, AbstractPopulation), "a scene without a number"
    assert replaced(world, {key: number.value for key, number in table.items()}) == world
    for key in table:
        assert resolve(world, key) == [key]
        assert resolve(world, named(world, key))[0] in table


def test_names_indices_vectors_and_stars_name_the_same() -> None:
    world = load_world("identify_jelly")
    assert resolve(world, "bodies.jelly.material.E") == resolve(world, "bodies.0.material.E") == ["bodies.0.material.E"]
    assert resolve(world, "bodies.*.velocity") == [f"bodies.0.velocity.{k}" for k in range(3)]
    assert parts_of('gas.reactions."H + O2 <=> O + OH".factor') == ["gas", "reactions", "H + O2 <=> O + OH", "factor"]
    with pytest.raises(SceneError, match=r"did you mean 'bodies\.jelly\.material\.E'"):
        resolve(world, "bodies.jely.material.E")


def test_a_number_in_the_wrong_table_is_found_by_its_own_name() -> None:
    """`bodies.jelly.turn.2` is nearer letter by letter; E stands in another table. A number misspelt is any."""
    world = load_world("identify_jelly")
    with pytest.raises(SceneError, match=r"bodies\.jelly\.E: no number .* did you mean 'bodies\.jelly\.material\.E'"):
        resolve(world, "bodies.jelly.E")
    with pytest.raises(SceneError, match=r"did you mean 'bodies\.jelly\.material\.nu'"):
        resolve(world, "bodies.jelly.material.mu")


def test_what_a_number_means_is_read_off_its_class() -> None:
    number = numbers(load_world("identify_jelly"))["bodies.0.material.E"]
    assert (number.unit, number.sentence, number.range.gt) == ("Pa", "Young's modulus [Pa].", 0)


def test_a_float_is_checked_and_a_tensor_passes_with_its_gradient() -> None:
    world = load_world("identify_jelly")
    with pytest.raises(SceneError, match=r"bodies\.0\.material\.E: expected a number above 0, got -1\.0"):
        replaced(world, {"bodies.0.material.E": -1.0})
    E = torch.tensor(2e5, dtype=torch.float64, requires_grad=True)
    held = replaced(world, {"bodies.0.material.E": E})
    assert tensors_in(held)["bodies.0.material.E"] is E
    assert floats_in(held).bodies[0].material.E == 2e5
