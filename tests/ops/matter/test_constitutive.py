"""The shipped laws: parity with plain torch, exact derivatives at and near repeated singular values, hard cases."""

import pytest
import torch

from simengine import materials
from simengine.materials.law import AbstractElasticity, AbstractLaw
from simengine.ops.matter import constitutive, constitutive_reference, svd

E, NU = 1e5, 0.2
ELASTIC: dict[str, AbstractLaw] = {
    "fixed_corotated": materials.FixedCorotated(E, NU),
    "hencky": materials.Hencky(E, NU),
    "neo_hookean": materials.NeoHookean(E, NU),
    "fluid": materials.Fluid(E, 0.3),
    "tait": materials.TaitFluid(5e4, 7.0),
    "snow": materials.Snow(E, NU, 10.0),
    "orthotropic": materials.Orthotropic((E, 2e4, 1e4), (0.3, 0.4, 0.2), (3e4, 2e4, 1e4), (0.3, -0.5, 0.8)),
}
PLASTIC: dict[str, AbstractLaw] = {
    "identity": materials.Identity(),
    "von_mises": materials.VonMises(E, NU, 5e3, 2e4),
    "von_mises_perfect": materials.VonMises(E, NU, 5e3),
    "drucker_prager": materials.DruckerPrager(E, NU, 25.0, 0.02),
    "drucker_prager_without_correction": materials.DruckerPrager(E, NU, 25.0, 0.02, volume_correction=False),
    "mohr_coulomb": materials.MohrCoulomb(E, NU, 25.0, 0.02),
    "mohr_coulomb_without_correction": materials.MohrCoulomb(E, NU, 40.0, 0.02, volume_correction=False),
    "inertial": materials.InertialFriction(E, NU, 0.25, 0.7, 0.3, diameter=0.05, dt=5e-4),
    "fluid": materials.FluidProjection(),
    "snow": materials.SnowCompaction(),
    "herschel_bulkley": materials.HerschelBulkley(E, NU, 2e3, 50.0, 0.6, dt=5e-4),
}
LAWS = {**{f"stress {k}": v for k, v in ELASTIC.items()}, **{f"return {k}": v for k, v in PLASTIC.items()}}


def deformations(n: int, size: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    F = torch.eye(3, dtype=torch.float64) + size * torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)
    q = 0.1 * torch.rand(n, generator=generator, dtype=torch.float64)
    return F.to(dtype), q.to(dtype)


def evaluate(law: AbstractLaw, module, F: torch.Tensor, q: torch.Tensor, dtype: torch.dtype):
    """Outputs in one vector, and the cotangents of F, q and the coefficients under a fixed random cotangent."""
    elastic = isinstance(law, AbstractElasticity)
    columns = max(law.columns, 3) if elastic else 5
    coefficients = law.packed(len(F), columns).detach().requires_grad_()
    F, q = F.to(dtype).requires_grad_(), q.to(dtype).requires_grad_()
    function = module.stress if elastic else module.return_map
    outputs = function(F, q, law._ids(F), coefficients)
    outputs = (outputs,) if elastic else outputs
    generator = torch.Generator().manual_seed(5)
    loss = sum((o.double() * torch.randn(o.shape, generator=generator, dtype=torch.float64)).sum() for o in outputs)
    bars = torch.autograd.grad(loss, (F, q, coefficients), allow_unused=True, materialize_grads=True)
    value = torch.cat([o.detach().double().flatten() for o in outputs])
    timed = isinstance(law, materials.HerschelBulkley)  # its last column is the time step, a constant
    used = coefficients.shape[1] - timed
    return value, [bars[0].double(), bars[1].double(), bars[2][:, :used]]


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm()) if float(b.norm()) > 0 else float(a.norm())


# float64: the reference's own SVD derivative loses digits at close singular values, measured 2e-11;
# float32: tau and its coefficients are differences of numbers near 1: 6e-8 / |F - I|
@pytest.mark.parametrize(
    ("dtype", "size", "forward", "backward"),
    [
        (torch.float64, 0.3, 1e-13, 1e-9),
        (torch.float64, 0.05, 1e-13, 1e-9),
        (torch.float32, 0.3, 2e-6, 1e-5),
        (torch.float32, 0.05, 1e-5, 1e-5),
    ],
)
@pytest.mark.parametrize("name", list(LAWS))
def test_parity(name: str, dtype: torch.dtype, size: float, forward: float, backward: float) -> None:
    law = LAWS[name]
    F, q = deformations(200, size, dtype)
    value, bars = evaluate(law, constitutive, F, q, dtype)
    exact, exact_bars = evaluate(law, constitutive_reference, F, q, torch.float64)
    assert error(value, exact) < forward
    for label, a, b in zip(("F", "q", "coefficients"), bars, exact_bars, strict=True):
        # columns of coefficients differ by many orders: each on its own
        columns = range(b.shape[1]) if label == "coefficients" else [slice(None)]
        for k in columns:
            left, right = (a[:, k], b[:, k]) if label == "coefficients" else (a, b)
            assert error(left, right) < backward or float(left.norm() + right.norm()) < 1e-12, (label, k)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("name", list(LAWS))
def test_vector_jacobian_product_near_identity(name: str, size: float) -> None:
    """VJP in float32 against float64 at F = I and |F - I| up to 1e-2: relative error <= 1e-5.

    The float64 kernel is itself held against finite differences and torch by the other tests here.
    """
    law = LAWS[name]
    F, q = deformations(100, size, torch.float32)
    if "drucker" in name or "inertial" in name:  # away from the tip of the cone, where the map has a kink
        F = F * (1.05 if "drucker" in name else 0.95)
    _, bars = evaluate(law, constitutive, F, 0 * q, torch.float32)
    _, exact = evaluate(law, constitutive, F, 0 * q, torch.float64)
    # what a viscous flow leaves above its yield stress is a difference that cancels where it begins to flow
    assert error(bars[0], exact[0]) <= (5e-5 if "herschel" in name or "inertial" in name else 1e-5)


@pytest.mark.parametrize("name", list(LAWS))
def test_derivative_at_repeated_singular_values(name: str) -> None:
    """At two and three equal singular values: central differences of the float64 kernel, h = 1e-6."""
    law = LAWS[name]
    diagonals = [[1.1, 1.1, 0.8], [1.2, 0.7, 0.7], [1.05, 1.05, 1.05], [1.0, 1.0, 1.0], [0.9, 0.9, 0.9]]
    F = torch.diag_embed(torch.tensor(diagonals, dtype=torch.float64))
    if "drucker" in name or "snow" in name:  # kinks of these maps: the tip, and the corners of the clamp
        F = F * torch.tensor([[[1.03]]], dtype=torch.float64)
    if "inertial" in name:
        F = F * 0.97
    generator = torch.Generator().manual_seed(6)
    turn = torch.linalg.qr(torch.randn(2, 3, 3, generator=generator, dtype=torch.float64))[0]
    F = turn[0] @ F @ turn[1] * torch.linalg.det(turn[0]) * torch.linalg.det(turn[1])
    q = torch.zeros(len(F), dtype=torch.float64)
    _, bars = evaluate(law, constitutive, F, q, torch.float64)
    direction = torch.randn(F.shape, generator=generator, dtype=torch.float64)
    h, sides = 1e-6, []
    for sign in (1, -1):
        value, _ = evaluate(law, constitutive, F + sign * h * direction, q, torch.float64)
        generator2, loss = torch.Generator().manual_seed(5), 0.0
        shape = (len(F), 3, 3)
        loss = (value[: F.numel()].reshape(shape) * torch.randn(shape, generator=generator2, dtype=torch.float64)).sum(
            (1, 2)
        )
        if value.numel() > F.numel():
            loss = loss + value[F.numel() :] * torch.randn(len(F), generator=generator2, dtype=torch.float64)
        sides.append(loss)
    difference = (sides[0] - sides[1]) / (2 * h)
    exact = (bars[0] * direction).sum((1, 2))
    # truncation h^2 and rounding 1e-16 |tau| / h
    assert torch.allclose(exact, difference, rtol=1e-6, atol=1e-5 * float(difference.abs().max() + 1e-3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(LAWS))
def test_inverted_and_degenerate_deformations_stay_finite(name: str, dtype: torch.dtype) -> None:
    diagonals = [
        [1, 1, -1],
        [1, 1, 0],
        [1, 0, 0],
        [0, 0, 0],
        [-1, -1, -1],
        [1, -0.5, 0.5],
        [1e3, 1, 1e-3],
        [1, 1, 1e-20],
    ]
    F = torch.diag_embed(torch.tensor(diagonals, dtype=torch.float64))
    generator = torch.Generator().manual_seed(7)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    F = torch.cat((F, turn @ F, F @ turn))
    value, bars = evaluate(LAWS[name], constitutive, F, torch.zeros(len(F)), dtype)
    assert bool(torch.isfinite(value).all())
    assert all(bool(torch.isfinite(bar).all()) for bar in bars)


@pytest.mark.parametrize("name", list(LAWS))
def test_gradcheck(name: str) -> None:
    law = LAWS[name]
    elastic = isinstance(law, AbstractElasticity)
    F, q = deformations(3, 0.2, torch.float64)
    function = constitutive.stress if elastic else constitutive.return_map
    coefficients = law.packed(3, max(law.columns, 3) if elastic else 5).detach()

    def scaled(F: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        result = function(F, q, law._ids(F), coefficients)
        return result / E if elastic else torch.cat((result[0].flatten(), result[1]))

    assert torch.autograd.gradcheck(scaled, (F.requires_grad_(), q.requires_grad_()), eps=1e-6, atol=1e-6)


def test_laws_are_objective() -> None:
    """tau(Q F) = Q tau(F) Q^T and return(Q F) = Q return(F) for a rotation Q; tau(F Q) = tau(F) without own axes."""
    F, q = deformations(50, 0.2, torch.float64)
    Q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    Q = Q * torch.linalg.det(Q)
    for name, law in ELASTIC.items():
        tau = law(F, q)
        rounding = {"rtol": 0.0, "atol": 1e-13 * float(tau.abs().max())}
        assert torch.allclose(law(Q @ F, q), Q @ tau @ Q.T, **rounding)
        assert torch.allclose(law(F @ Q, q), tau, **rounding) == (name != "orthotropic")
        assert torch.equal(tau, tau.mT)  # symmetric to the bit: angular momentum
    for name, law in PLASTIC.items():
        F_new, q_new = law(F, q)
        moved, q_moved = law(Q @ F, q)
        if name != "fluid":  # forgets rotations, by definition
            assert torch.allclose(moved, Q @ F_new, atol=1e-12)
        assert torch.allclose(q_moved, q_new, atol=1e-12)


def test_return_maps_reach_their_surface() -> None:
    """The closed forms of yield: each map ends on its surface, is idempotent, and keeps what it must."""
    F, q = deformations(200, 0.3, torch.float64)
    q = torch.zeros_like(q)

    def strain(F: torch.Tensor) -> torch.Tensor:
        return torch.log(constitutive_reference.rotation_svd(F)[1])

    F = F[torch.linalg.det(F) > 0.2]
    q = q[: len(F)]
    F = F[constitutive_reference.rotation_svd(F)[1].min(1).values > 0.06]
    q = q[: len(F)]
    mu = E / (2 * (1 + NU))
    flowed, history = PLASTIC["von_mises"](F, q)
    e, e0 = strain(flowed), strain(F)
    stress = 2 * mu * (e - e.mean(1, keepdim=True)).norm(dim=1)
    yielding = history > 0
    assert bool(yielding.any()) and torch.allclose(stress[yielding], 5e3 + 2e4 * history[yielding], rtol=1e-9)
    assert torch.allclose(e.sum(1), e0.sum(1), atol=1e-12)  # volume is kept
    again, history_again = PLASTIC["von_mises"](flowed, history)
    assert torch.allclose(again, flowed, atol=1e-9) and torch.allclose(history_again, history, atol=1e-9)
    sand, _ = PLASTIC["drucker_prager"](F, q)
    assert torch.allclose(PLASTIC["drucker_prager"](sand, q)[0], sand, atol=1e-9)
    viscous, rate = PLASTIC["herschel_bulkley"](F, q)
    e = strain(viscous)
    stress = 2 * mu * (e - e.mean(1, keepdim=True)).norm(dim=1)
    flowing = rate > 0
    assert torch.allclose(stress[flowing], 2e3 + 50.0 * (rate[flowing] / 5e-4) ** 0.6, rtol=1e-8)
    packed, log_J = PLASTIC["snow"](F, q)
    assert torch.allclose(torch.linalg.det(packed) * log_J.exp(), torch.linalg.det(F), rtol=1e-10)
    s = constitutive_reference.rotation_svd(packed)[1]
    assert float(s.max()) <= 1 + 7.5e-3 + 1e-12 and float(s.min()) >= 1 - 2.5e-2 - 1e-12
    water = PLASTIC["fluid"](F)
    assert torch.allclose(torch.linalg.det(water), torch.linalg.det(F), rtol=1e-12)


def test_gradient_of_a_shared_coefficient_is_summed_in_double() -> None:
    """A million particles in float32 that share E: the gradient has an error far below the 4e-4 of a float32 sum."""
    modulus = torch.tensor(E, dtype=torch.float64, requires_grad=True)
    law = materials.FixedCorotated(modulus, NU)
    F = (torch.eye(3) * 1.01).expand(10**6, 3, 3).contiguous()
    (gradient,) = torch.autograd.grad(law(F).double().sum(), modulus)
    one = law(F[:1].double())
    expected = 10**6 * torch.autograd.grad(one.sum(), modulus)[0]
    assert float(gradient / expected) == pytest.approx(1, abs=1e-5)  # rounding of F - R in float32: 6e-8 / 1e-2


@pytest.mark.parametrize("n", [0, 1])
def test_few_particles(n: int) -> None:
    F, q = deformations(n, 0.1, torch.float64)
    for law in LAWS.values():
        value, bars = evaluate(law, constitutive, F, q, torch.float64)
        assert bars[0].shape == F.shape and bars[2].shape[0] == n
        if n == 0:
            assert value.numel() == 0
        else:
            exact, _ = evaluate(law, constitutive_reference, F, q, torch.float64)
            assert value.shape == exact.shape and torch.allclose(value, exact, atol=1e-8)


def test_bad_input() -> None:
    law = ELASTIC["hencky"]
    F, q = deformations(4, 0.1, torch.float32)
    with pytest.raises(ValueError, match=r"F must have shape \(4, 3, 3\)"):
        constitutive.stress(F[:, 0], q, law._ids(F), law.packed(4, 3))
    with pytest.raises(TypeError, match="coefficients float64"):
        constitutive.stress(F, q, law._ids(F), law.packed(4, 3).float())
    for wrong in (lambda: materials.jelly(E=-1.0), lambda: materials.jelly(nu=0.5), lambda: materials.jelly(nu=-1.0)):
        with pytest.raises(ValueError, match=r"must lie between"):
            wrong()
    with pytest.raises(ValueError, match="one value per particle"):
        materials.jelly(E=torch.ones(2, 2))
    with pytest.raises(ValueError, match="friction_angle must lie between 0 and 90"):
        materials.sand(friction_angle=95.0)


def singular_vector_frames() -> torch.Tensor:
    F, _ = deformations(100, 0.5, torch.float64)
    return torch.cat((F, torch.eye(3, dtype=torch.float64)[None], -torch.eye(3, dtype=torch.float64)[None]))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 3e-6)])
def test_polar_svd(dtype: torch.dtype, bound: float) -> None:
    F = singular_vector_frames().to(dtype)
    R, s = svd.polar_svd(F)
    U, expected, Vh = constitutive_reference.rotation_svd(F.double())
    assert float((s.double() - expected).abs().max()) < bound
    eye = torch.eye(3, dtype=torch.float64)
    assert float((R.double() @ R.double().mT - eye).abs().max()) < bound
    assert float((torch.linalg.det(R.double()) - 1).abs().max()) < bound
    gap = (expected[:, 1] + expected[:, 2]) > 0.1  # R is not defined where the two smallest cancel
    assert float((R.double() - U @ Vh)[gap].abs().max()) < 20 * bound
    assert torch.equal(svd.polar_svd(F[:0])[0], F[:0])


def test_polar_svd_derivative() -> None:
    F, _ = deformations(5, 0.2, torch.float64)
    assert torch.autograd.gradcheck(svd.polar_svd, F.requires_grad_(), atol=1e-6)
    eye = torch.eye(3, dtype=torch.float64)[None].requires_grad_()
    # at F = I: dR is the antisymmetric part of dF, to all digits
    cotangent = torch.randn(1, 3, 3, dtype=torch.float64)
    (bar,) = torch.autograd.grad(svd.polar_svd(eye)[0], eye, cotangent)
    assert torch.allclose(bar, (cotangent - cotangent.mT) / 2, atol=1e-15)
    for size in (1e-6, 1e-4, 1e-2):
        F32, _ = deformations(50, size, torch.float32)
        bars = []
        for F in (F32.requires_grad_(), F32.detach().double().requires_grad_()):
            R, _ = svd.polar_svd(F)
            generator = torch.Generator().manual_seed(1)
            weight = torch.randn(R.shape, generator=generator, dtype=torch.float64)
            bars.append(torch.autograd.grad((R.double() * weight).sum(), F)[0].double())
        assert error(bars[0], bars[1]) < 1e-5
    with pytest.raises(ValueError, match=r"shape \(n, 3, 3\)"):
        svd.polar_svd(torch.ones(3, 3))
