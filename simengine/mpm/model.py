"""What is constant in time: grid, materials, boundaries, and the body's mass and volume."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from simengine.kernels.matter.hard_contact import STIFFNESS
from simengine.materials import Identity, Material
from simengine.materials.law import AbstractLaw
from simengine.mpm.boundaries import Walls, keep
from simengine.mpm.contact import Contact
from simengine.mpm.loads import Loads
from simengine.mpm.mesh_body import MeshBody
from simengine.mpm.rigid_bodies import AbstractBody
from simengine.mpm.tilt import Tilt
from simengine.ops.matter import constitutive, hard_contact
from simengine.ops.matter.constitutive import elasticity, plasticity
from simengine.ops.matter.mpm import Grid
from simengine.ops.matter.mpm.laws import TorchLaw

LARGEST_EPSILON = 1e-5  # of the lightest particle: a body in free flight keeps 99 % of its speed over 1000 steps


class MPMModel(nn.Module):
    """An MPM simulation but for its state.

    Args:
        num_grids: Nodes per axis, one number or three.
        dt: Time step [s].
        materials: Materials; particles choose by `material_ids`.
        volume: Volume at rest of a particle [m^3], a number or shape (n,).
        mass: Mass of a particle [kg], a number or shape (n,).
        material_ids: Index into `materials` of each particle, shape (n,); None for the first.
        length: Length of the x axis [m]; dx = length / num_grids[0].
        gravity: Acceleration [m/s^2], three numbers, a tensor or an `nn.Parameter`, (3,); a `Tilt` where it changes.
        release: Share of the weight that a hand under everything bears at first [1], and when it is gone [s], (2,); in
            between it bears less in proportion to the time. None for no hand.
        contact: Between bodies; None where all particles share one velocity field.
        boundaries: At most one `Walls` (without one, slip walls) and any rigid bodies: `Plane`, `Sphere`, `Box`,
            `Capsule`, `MeshBody`; and one `Loads`, forces and pressures on parts of bodies.
        epsilon: Added to a node's mass [kg] where momentum is divided by it, as some published programs do. It takes
            momentum from the body, so it may be at most `LARGEST_EPSILON` of the lightest particle's mass.

    Raises:
        ValueError: An argument is out of range or a shape does not fit.
    """

    gravity: torch.Tensor
    release: torch.Tensor
    materials: nn.ModuleList
    volume: torch.Tensor
    mass: torch.Tensor
    edge: torch.Tensor | None
    material_ids: torch.Tensor | None

    def __init__(
        self,
        *,
        num_grids: int | Sequence[int],
        dt: float,
        materials: Sequence[Material],
        volume: float | torch.Tensor,
        mass: float | torch.Tensor,
        material_ids: torch.Tensor | None = None,
        length: float = 1.0,
        gravity: Sequence[float] | torch.Tensor | Tilt = (0.0, -9.8, 0.0),
        release: Sequence[float] | torch.Tensor | None = None,
        boundaries: Sequence[nn.Module] = (),
        contact: Contact | None = None,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        size = (num_grids,) * 3 if isinstance(num_grids, int) else tuple(num_grids)
        if len(size) != 3:
            raise ValueError(f"num_grids must have 3 entries, got {size}")
        if not materials:
            raise ValueError("materials must hold at least one Material, got none")
        if not math.isfinite(length) or length <= 0:
            raise ValueError(f"length must be positive and finite [m], got {length}")
        self.tilt: Tilt | None = gravity if isinstance(gravity, Tilt) else None
        keep(self, "gravity", gravity.gravity if isinstance(gravity, Tilt) else gravity, ((3,),))
        keep(self, "release", (0.0, 0.0) if release is None else release, ((2,),))
        self.materials = nn.ModuleList(materials)
        self.boundaries: nn.ModuleList = nn.ModuleList(boundaries)
        self.contact: Contact | None = contact
        walls = [b for b in boundaries if isinstance(b, Walls)]
        if len(walls) > 1 or sum(isinstance(b, Loads) for b in boundaries) > 1:
            raise ValueError(
                "boundaries may hold one Walls, of kinds by face, and one Loads, of several `Load`; got more"
            )
        if strange := [b for b in boundaries if not isinstance(b, (Walls, AbstractBody, Loads))]:
            raise ValueError(f"boundaries may hold Walls, rigid bodies and Loads, got {type(strange[0]).__name__}")
        if not walls:
            self.boundaries.append(Walls())
        self.grid: Grid = Grid(
            size=(int(size[0]), int(size[1]), int(size[2])),
            dx=length / size[0],
            dt=dt,
            gravity=cast("tuple[float, float, float]", tuple(self.gravity.detach().tolist())),
            epsilon=epsilon,
            faces=self.walls.faces,
            thickness=self.walls.thickness,
            periodic=self.walls.periodic,
            kinds=tuple(body.mode for body in self.bodies),
            fields=tuple(body.field for body in self.bodies if isinstance(body, MeshBody)),
            bodies=contact.bodies if contact else (),
            pairs=contact.pairs if contact else (),
            loads=len(self.loads.members) if self.loads is not None else 0,
        )
        self._body("volume", volume)
        self._body("mass", mass)
        self.register_buffer("edge", None)
        lightest = float(self.mass.detach().min())
        if not 0 <= epsilon <= LARGEST_EPSILON * lightest:
            raise ValueError(
                f"epsilon must lie between 0 and {LARGEST_EPSILON * lightest:.2g} kg, {LARGEST_EPSILON:g} of the "
                f"lightest particle, got {epsilon:g}; 0 brakes nothing"
            )
        if material_ids is not None:
            low, high = int(material_ids.min()), int(material_ids.max())
            if material_ids.ndim != 1 or low < 0 or high >= len(materials):
                raise ValueError(
                    f"material_ids must have shape (n,) and lie in 0..{len(materials) - 1}, "
                    f"got shape {tuple(material_ids.shape)} and {low}..{high}"
                )
            material_ids = material_ids.to(torch.int64)
        self.register_buffer("material_ids", material_ids)
        self._groups: tuple[torch.Tensor, int, list[torch.Tensor | None]] | None = None

    def _body(self, name: str, value: float | torch.Tensor) -> None:
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=torch.float64)
        if tensor.ndim > 1 or not bool((tensor.detach() > 0).all()):
            raise ValueError(f"{name} must be positive, a number or of shape (n,), got shape {tuple(tensor.shape)}")
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(name, tensor)
        else:
            self.register_buffer(name, tensor)

    def _pairs(self) -> list[Material]:
        """The materials, typed."""
        return cast("list[Material]", list(self.materials))

    @property
    def keeps_history(self) -> bool:
        """Whether a return map changes q."""
        return any(getattr(m.plasticity, "uses_history", False) for m in self._pairs())

    def critical_packing(self, n: int) -> torch.Tensor | None:
        """Packing over that at rest below which a particle presses on nothing [1], (n,), float64; None without one."""
        limits = [float(getattr(m.plasticity, "critical_packing", 0.0)) for m in self._pairs()]
        if not any(limits):
            return None
        ids = self.material_ids
        values = torch.tensor(limits, dtype=torch.float64, device=self.volume.device)
        return values[0].expand(n) if ids is None else values[ids]

    def body(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mass [kg] and volume [m^3] per particle, shape (n,), in the dtype of `like`, shape (n, ...)."""
        n = len(like)
        for name in ("mass", "volume"):
            tensor = getattr(self, name)
            if tensor.ndim and len(tensor) != n:
                raise ValueError(f"{name} has {len(tensor)} values, the state {n} particles")
        return self.mass.to(like).expand(n), self.volume.to(like).expand(n)

    def set_edge(self, edge: float | torch.Tensor) -> None:
        """Say the width of a particle [m], a number or shape (n,), where its volume is not that of one cube: rings.

        Raises:
            ValueError: It is not positive.
        """
        del self.edge
        self._body("edge", edge)

    def edges(self, like: torch.Tensor) -> torch.Tensor:
        """Width of each particle [m], (n,), float64."""
        if self.edge is None:
            return self.body(like)[1].double() ** (1 / 3)
        return self.edge.double().to(like.device).expand(len(like))

    def cubes(self, like: torch.Tensor) -> torch.Tensor | float:
        """Of how many cubes side by side each particle consists, (n,) in the dtype of `like`, or 1."""
        return 1.0 if self.edge is None else (self.body(like)[1] / self.edges(like) ** 3).to(like)

    @property
    def walls(self) -> Walls:
        """The faces of the grid."""
        return next(b for b in self.boundaries if isinstance(b, Walls))

    @property
    def bodies(self) -> list[AbstractBody]:
        """The rigid bodies."""
        return [b for b in self.boundaries if isinstance(b, AbstractBody)]

    @property
    def loads(self) -> Loads | None:
        """Forces and pressures on parts of bodies."""
        return next((b for b in self.boundaries if isinstance(b, Loads)), None)

    def table(
        self, like: torch.Tensor, first_step: float = 0, num_steps: int = 1, *, since: float = 0.0, ahead: float = 1.0
    ) -> torch.Tensor:
        """Frictions of the faces and poses of the bodies as the grid kernels read them, in the dtype of `like`.

        Args:
            like: Of the dtype and device wanted.
            first_step: At whose beginning the first poses are.
            num_steps: Of these there are.
            since: Share of a step before these poses at which the step begins over which a body moves.
            ahead: Share of a step from these poses to its end, which a load that begins counts.

        Returns:
            Shape (num_steps, 1 + bodies, 23), or (1, 1 + bodies, 23) where nothing hangs on the time; with frictions of
            pairs in rows after these, and loads in those after them.
        """
        bodies, (share, until) = self.bodies, self.release.to(like.device).unbind()
        held = until / self.grid.dt - first_step  # steps from the first on
        lifted = float(share.detach()) != 0 and float(held.detach()) > 0
        loads, tilt = self.loads, self.tilt
        timed = lifted or tilt is not None or (loads is not None and loads.changes)
        count = num_steps if timed or any(body.moving for body in bodies) else 1
        wide = torch.zeros((), dtype=torch.float64, device=like.device)
        steps = first_step + torch.arange(count, dtype=torch.float64, device=like.device)
        times, walls = steps * self.grid.dt, self.walls.row(wide).expand(count, -1)
        pull = self.gravity.to(wide).expand(count, 3) if tilt is None else tilt.acceleration(times)
        fall = pull - torch.tensor(self.grid.gravity, dtype=wide.dtype, device=wide.device)
        walls = torch.cat((walls[:, :6], fall, walls[:, 9:]), 1)  # what it, or a parameter, moved by, and its gradient
        if lifted:  # in proportion to the time left, the mean of each step
            left = (held - torch.arange(count + 1, dtype=wide.dtype, device=wide.device)).clamp_min(0.0).square()
            borne = share * (left[:-1] - left[1:]) * self.grid.dt / (2 * until)
            lift = borne[:, None] * pull
            walls = torch.cat((walls[:, :6], walls[:, 6:9] - lift, walls[:, 9:]), 1)
        rows = [walls, *(body.rows(times, self.grid.dx, step=self.grid.dt, since=since) for body in bodies)]
        if self.contact is not None and self.contact.pairs:
            rows += [row.expand(count, -1) for row in self.pair_rows(like)]
        if loads is not None:
            rows += loads.rows(steps, self.grid.dt, ahead, self.volume.to(wide)).unbind(1)
        return torch.stack(rows, 1).to(like.dtype)

    def pair_rows(self, like: torch.Tensor) -> torch.Tensor:
        """Frictions, margins and stiffnesses of pairs of bodies, (rows, 23), float64."""
        assert self.contact is not None
        spacing = self.edges(like) / self.grid.dx
        return self.contact.rows(self.moduli(like), spacing)

    def loaded(self, like: torch.Tensor) -> torch.Tensor | None:
        """Row of the table with the load on each particle, (n,), int32, 0 for none; None where there is no load."""
        return None if self.loads is None else self.loads.row_of(like, self.grid.rows - self.grid.loads)

    def groups(self, n: int) -> list[torch.Tensor | None]:
        """The particles of each material as indices; None for all of them."""
        ids = self.material_ids
        if ids is None:
            return [None, *[torch.zeros(0, dtype=torch.int64)] * (len(self.materials) - 1)]
        if len(ids) != n:
            raise ValueError(f"material_ids has {len(ids)} values, the state {n} particles")
        if len(self.materials) == 1:
            return [None]
        if self._groups is None or self._groups[0] is not ids or self._groups[1] != ids._version:
            found: list[torch.Tensor | None] = [(ids == k).nonzero()[:, 0] for k in range(len(self.materials))]
            self._groups = (ids, ids._version, found)
        return self._groups[2]

    @property
    def is_hard(self) -> bool:
        """Whether a rigid body touches the particles themselves."""
        return hard_contact.is_hard(self.grid)

    def modulus(self, like: torch.Tensor, axis: int = 0) -> torch.Tensor:
        """Rise of the stress along x with a stretch (axis 0) or a shear (1) from F = I [Pa], shape (n,), float64.

        By central differences of the law: the modulus of a wave at rest, of compression or of shear.
        """
        h, n = 1e-4, len(like)
        eye = torch.eye(3, dtype=torch.float64, device=like.device)
        stretch = h * torch.outer(eye[0], eye[axis])
        q = torch.zeros(n, dtype=torch.float64, device=like.device)
        ahead, behind = (self.stress((eye + sign * stretch).repeat(n, 1, 1), q)[:, 0, axis] for sign in (1.0, -1.0))
        return (ahead - behind) / (2 * h)

    def stiffness(self, like: torch.Tensor) -> torch.Tensor:
        """Of the spring that hard contact sets beside the material's own pressure [N/m], shape (n,), as x `like`.

        alpha M s^2 / dx for each of its cubes, M of `moduli`, s their edge.
        """
        _, volume = self.body(like)
        if not self.is_hard:
            return torch.zeros_like(volume)
        return (STIFFNESS * self.moduli(like) * self.edges(like) ** 2 / self.grid.dx).to(like.dtype) * self.cubes(like)

    def moduli(self, like: torch.Tensor) -> torch.Tensor:
        """What springs of contact are made of: `modulus` with its branches [Pa], shape (n,), float64, as x `like`.

        A law without one at rest gets that whose wave crosses a hundredth of a cell in a step.
        """
        mass, volume = self.body(like)
        modulus = self.modulus(like)
        if self.dissipates:
            modulus = modulus * (1 + self.shares(len(like)))
        least = 1e-4 * (mass / volume).double() * (self.grid.dx / self.grid.dt) ** 2
        return torch.maximum(modulus, least)

    @property
    def dissipates(self) -> bool:
        """Whether a material has viscosity, branches or damping."""
        return any(m.dissipation is not None for m in self._pairs())

    @property
    def branches(self) -> int:
        """Most branches of any material: Maxwell's, and stiffness-proportional damping."""
        return max((m.dissipation.branches for m in self._pairs() if m.dissipation is not None), default=0)

    @property
    def slows(self) -> bool:
        """Whether a material has mass-proportional damping."""
        return any(m.dissipation.slows for m in self._pairs() if m.dissipation is not None)

    @property
    def damps(self) -> bool:
        """Whether a material has Rayleigh damping."""
        return any(m.dissipation.damps for m in self._pairs() if m.dissipation is not None)

    def drag(self, n: int) -> torch.Tensor:
        """Mass-proportional damping of each particle [1/s], (n,), float64."""
        rates = torch.zeros(n, dtype=torch.float64, device=self.volume.device)
        for material, group in zip(self._pairs(), self.groups(n), strict=True):
            if material.dissipation is not None:
                rate = material.dissipation.mass_damping.to(rates).expand_as(rates)
                rates = rate if group is None else rates.index_copy(0, group, rate[: len(group)])
        return rates

    def shares(self, n: int, *, damped: float = 0.0) -> torch.Tensor:
        """Sum of the shares of each particle's branches [1], (n,), of what relaxes within a step times `damped`."""
        row = self.losses(n)
        share, k = row[:, 1 : 1 + self.branches], row[:, 1 + self.branches : -1]
        return torch.where(k < 1, share, damped * share).sum(1)

    def losses(self, n: int, *, span: float | None = None) -> torch.Tensor:
        """Rows of `Dissipation` by particle, (n, 2 + 2 branches), float64; `span` as there."""
        rows = torch.zeros(n, 2 + 2 * self.branches, dtype=torch.float64, device=self.volume.device)
        for material, group in zip(self._pairs(), self.groups(n), strict=True):
            if material.dissipation is not None:
                row = material.dissipation.row(self.grid.dt, self.branches, span=span).to(rows).expand_as(rows)
                rows = row if group is None else rows.index_copy(0, group, row[: len(group)])
        return rows

    def packed(self, n: int, attribute: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Law numbers (n,), int32, and coefficients (n, columns), float64, of `"elasticity"` or `"plasticity"`.

        A law of the user has number -1.
        """
        least = elasticity.NUM_COEFFICIENTS if attribute == "elasticity" else plasticity.NUM_COEFFICIENTS
        columns = max(least, *(getattr(getattr(m, attribute), "columns", 0) for m in self._pairs()))
        device = self.volume.device
        numbers = torch.full((n,), -1, dtype=torch.int32, device=device)
        coefficients = torch.zeros(n, columns, dtype=torch.float64, device=device)
        for material, group in zip(self._pairs(), self.groups(n), strict=True):
            law = getattr(material, attribute)
            if not isinstance(law, AbstractLaw):
                continue
            if group is None:
                return torch.full_like(numbers, law.kind), law.packed(n, columns).to(device)
            numbers = numbers.index_fill(0, group, law.kind)
            coefficients = coefficients.index_copy(0, group, law.packed(len(group), columns).to(device))
        return numbers, coefficients

    def torch_laws(self, n: int, attribute: str) -> list[TorchLaw]:
        """The `"elasticity"` or `"plasticity"` laws that are not shipped ones, for n particles."""
        plastic, laws = attribute == "plasticity", list[TorchLaw]()
        for material, group in zip(self._pairs(), self.groups(n), strict=True):
            law = getattr(material, attribute)
            if not isinstance(law, AbstractLaw):
                laws.append(TorchLaw(law, group, plastic=plastic))
        return laws

    def stress(self, F: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """Kirchhoff stress of all particles [Pa], shape (n, 3, 3), shipped laws in one launch, others in torch."""
        tau = F
        if any(isinstance(m.elasticity, AbstractLaw) for m in self._pairs()):
            tau = constitutive.stress(F, q, *self.packed(len(F), "elasticity"))
        for law in self.torch_laws(len(F), "elasticity"):
            tau = law.replaced(tau, law(*law.pick(F, q))[0])
        return tau

    def return_map(self, F: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """F [1] and history after plastic flow of all particles, from the trial F."""
        F_new, q_new = F, q
        if any(isinstance(m.plasticity, AbstractLaw) and not isinstance(m.plasticity, Identity) for m in self._pairs()):
            F_new, q_new = constitutive.return_map(F, q, *self.packed(len(F), "plasticity"))
        for law in self.torch_laws(len(F), "plasticity"):
            value, *history = law(*law.pick(F, q))
            F_new = law.replaced(F_new, value)
            if history:
                q_new = law.replaced(q_new, history[0])
        return F_new, q_new
