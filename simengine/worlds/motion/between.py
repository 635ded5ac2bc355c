"""How the bodies of a scene touch one another; see `simengine.mpm.Contact`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from simengine.scene.base import SceneError
from simengine.scene.strict import NonNegative, nearest

if TYPE_CHECKING:
    import torch

    from simengine.mpm import Contact
    from simengine.worlds.motion.specs import BodySpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Touch:
    """What happens between two bodies.

    Attributes:
        kind: frictional (they separate, and slide by Coulomb's law), sticky (they move as one where they meet) or none
            (they pass through each other).
        friction: Coulomb coefficient [1] of kind frictional.
    """

    kind: Literal["frictional", "sticky", "none"] = "frictional"
    friction: NonNegative = 0.0


def refuse_wrong(contact: Mapping[str, Touch], names: Sequence[str]) -> None:
    """Refuse names of pairs that are of no use.

    Raises:
        ValueError: A key names no two bodies, or two bodies have one name.
    """
    if not contact:
        return
    if len(names) < 2:
        raise ValueError("contact: the scene has one body; leave it out")
    if len(set(names)) < len(names):
        raise ValueError(f"contact: names of bodies must differ, got {', '.join(names)}")
    if odd := [name for name in names if "-" in name]:
        raise ValueError(f"contact: a name must hold no '-', which parts the two of a contact, got {odd[0]!r}")
    for pair in contact:
        parts = pair.split("-")
        if len(parts) != 2:
            raise ValueError(f'contact: {pair!r} is no pair; write "NAME-NAME", as in "{names[0]}-{names[1]}"')
        for name in parts:
            if name != "*" and name not in names:
                raise ValueError(f"contact: {pair!r}: {name!r} is no body; {nearest(name, names)}")
        if parts[0] == parts[1] != "*":
            raise ValueError(f"contact: {pair!r}: a body does not touch itself; name two")


def key_of(contact: Mapping[str, Touch], a: str, b: str) -> str | None:
    """The key that holds for two bodies: what names both, then one, then none; None where none does."""
    for pair in ((a, b), ("*", b), (a, "*"), ("*", "*")):
        for key in ("-".join(pair), "-".join(reversed(pair))):
            if key in contact:
                return key
    return None


def contact_of(
    contact: Mapping[str, Touch], names: Sequence[str], counts: Sequence[int], values: "Mapping[str, torch.Tensor]"
) -> "Contact | None":
    """The contact of a model; None where all bodies share one velocity field.

    Args:
        contact: Of pairs by their names.
        names: Of the bodies.
        counts: Their particles.
        values: Tensors in place of frictions, by the key of a pair.
    """
    import torch

    from simengine.mpm import Contact

    if not contact:
        return None
    kinds, frictions = {}, []
    for a, b in itertools.combinations(range(len(names)), 2):
        key = key_of(contact, names[a], names[b])
        touch = Touch(kind="sticky") if key is None else contact[key]
        kinds[a, b] = touch.kind
        given = values.get(key) if key is not None else None
        frictions.append(torch.tensor(touch.friction).double() if given is None else given.double().cpu())
    return Contact(counts, kinds, friction=torch.stack(frictions))


def refuse_overlaps(
    contact: Mapping[str, Touch], bodies: "Sequence[BodySpec]", x: np.ndarray, volumes: np.ndarray, ids: np.ndarray
) -> None:
    """Refuse bodies that begin inside each other, where friction is to act between them or one is a cloud of points.

    Args:
        contact: Of pairs by their names.
        bodies: The bodies.
        x: Positions of all particles [m], (n, 3).
        volumes: Their volumes [m^3], (n,).
        ids: Their bodies, (n,).

    Raises:
        SceneError: A particle of one lies less than half a spacing from one of another.
    """
    for a, b in itertools.combinations(range(len(bodies)), 2):
        key = key_of(contact, bodies[a].name, bodies[b].name)
        rubs = key is not None and contact[key].kind == "frictional"
        passes = key is not None and contact[key].kind == "none"
        if not rubs and (passes or "points" not in (bodies[a].shape.type, bodies[b].shape.type)):
            continue
        from scipy.spatial import cKDTree

        first, second = x[ids == a], x[ids == b]
        spacing = min(volumes[ids == a].min(), volumes[ids == b].min()) ** (1 / 3)
        near, _ = cKDTree(first).query(second, distance_upper_bound=spacing / 2)
        if count := int(np.isfinite(near).sum()):
            begins = f"bodies.{b}.shape: {count} particles of {bodies[b].name!r} begin inside {bodies[a].name!r}"
            if rubs:
                raise SceneError(f"{begins} and would be thrown out; move one of them, or let the pair be sticky")
            raise SceneError(f"{begins}, where matter would count twice; move one of them, or take the points out")
