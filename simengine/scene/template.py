"""A scene to start from, for a kind of world and an instrument: what has to be said, and what may be as comments."""

from simengine.scene.errors import SceneError
from simengine.scene.keys_page import key_line
from simengine.scene.kinds import INSTRUMENTS, KINDS, named_class
from simengine.scene.schema import keys_of
from simengine.scene.sought import Inference
from simengine.scene.strict import nearest

# kind -> its tables
WORLDS = {
    "specimen": """[material]                                # the law; others: metal, paste, yeoh, gent, maxwell, ...
type = "ogden"
mu = [4e5]                                # where the search begins [Pa]
alpha = [2.0]
nu = 0.5                                  # exactly incompressible
[test]
type = "uniaxial"                         # or equibiaxial, planar, simple_shear, relaxation, creep, ...
""",
    "rigid": """duration = 1.0                            # [s]
gravity = [0.0, -9.81, 0.0]               # [m/s^2]
[[bodies]]
name = "ball"
shape = { type = "sphere", center = [0.0, 1.0, 0.0], radius = 0.02 }
mass = 2.8e-3                             # [kg]
drag = { coefficient = 0.5, density = 1.2 }
""",
    "mpm": """[grid]
num_grids = 20                            # cells along the box of 1 m
time_step = 5e-4                          # [s]
num_steps = 400
[[bodies]]
name = "body"
shape = { type = "box", center = [0.5, 0.5, 0.5], size = [0.3, 0.3, 0.3], counts = [8, 8, 8] }
material = { type = "jelly", E = 1e5, nu = 0.3 }
""",
    "flame": """resolution = 1e-5                         # finest cell [m]
[gas]
mechanism = "asset:methane_1step.yaml"    # or a file of yours, in Cantera's format
[flame]
type = "free"                             # or burner, counterflow, twin, impinging, diffusion
T_in = 298.0                              # [K]
""",
    "pde": """[pde]
equation = "heat"                         # or diffusion_sorption, or one of yours by --with FILE.py
conductivity = 100.0                      # where the search begins [W/(m K)]
heat_capacity = 2.4e6                     # rho c [J/(m^3 K)]
initial = 293.15                          # [K]
domain = [[0.0, 0.5]]                     # [m]
duration = 120.0                          # [s]
cells = [60, 50]                          # time first
[[pde.boundary]]
at = "left"
type = "dirichlet"
value = 333.15
[[pde.boundary]]
at = "right"
type = "neumann"
""",
    "volume": """[volume]
box = [[-1.0, 1.0], [-1.0, 1.0]]          # [m]
cells = [32, 32]
""",
    "surface": """[surface]
mask = "mask.png"                         # white where the surface is
[lights.lamps]
file = "lamps.csv"                        # a row for each picture
columns = { direction = ["x", "y", "z"] }
""",
    "pictures": """[pictures]
files = "photos"                          # a picture, a folder, or a name with a star
[detector]
architecture = "mine"                     # named by --with FILE.py, or one of torchvision's
classes = { car = 1 }                     # class of the labels -> label of the detector
""",
}
# (kind, instrument) -> the keys of the observation, the unknowns
PAIRS = {
    ("specimen", "curve"): (
        """file = "my_curve.csv"
against = "stretch"                       # the specimen is driven through these values
columns = { stretch = "stretch", nominal_stress = "stress [MPa]" }
""",
        '"material.mu" = {}\n"material.alpha" = {}\n',
    ),
    ("rigid", "markers"): (
        """file = "my_tracks.csv"
columns = { time = "t [s]", y = "y [cm]" }      # what was not measured is left out
on = "ball"
""",
        '"bodies.ball.drag.coefficient" = { prior.lognormal = [0.5, 0.7] }\n'
        '"observations.measured.start" = { prior.normal = 0.03 }\n',
    ),
    ("mpm", "markers"): (
        """file = "my_marks.csv"
columns = { time = "t [s]", name = "id", x = "x [mm]", y = "y [mm]", z = "z [mm]" }
on = "body"
""",
        '"bodies.body.material.E" = { prior.lognormal = 1.0 }\n',
    ),
    ("flame", "experiments"): (
        """file = "my_speeds.csv"
conditions = { phi = "phi" }              # keys of the world that a row sets; others: T_in, p
measured = { flame_speed = "speed [cm/s]" }
""",
        "'gas.reactions.\"CH4 + 2 O2 => CO2 + 2 H2O\".factor' = { prior.uncertainty_factor = 3.0 }\n",
    ),
    ("flame", "profiles"): (
        """file = "my_profiles.csv"
columns = { x = "x [mm]", T = "T [degC]", X_CH4 = "X_CH4" }
""",
        "'gas.reactions.\"CH4 + 2 O2 => CO2 + 2 H2O\".factor' = { prior.uncertainty_factor = 3.0 }\n",
    ),
    ("pde", "samples"): (
        """file = "my_sensors.csv"
columns = { t = "t [s]", T = "T* [degC]" }      # a star: several columns of one quantity
at = [[0.05], [0.10]]                     # a place for each of them [m]
""",
        '"pde.conductivity" = { prior.lognormal = 0.5 }\n',
    ),
    ("volume", "projections"): (
        """file = "my_scan.npz"
columns = { values = "sinogram", angle = "angles [deg]" }
geometry = { type = "parallel", pitch = 0.05 }
""",
        '"volume.attenuation" = { lower = 0.0, prior.total_variation = "estimate" }\n',
    ),
    ("surface", "lamps"): (
        """file = "photo_*.png"
mask = "mask.png"
light = "lamps"
""",
        '"surface.normals" = { initial = 0.5 }\n',
    ),
    ("pictures", "labelled"): (
        """file = "boxes.csv"                        # or COCO's json, or a folder of YOLO's txt
label = "car"
columns = { image = "file", box = ["left [px]", "top [px]", "right [px]", "bottom [px]"] }
""",
        "",
    ),
}


def template(kind: str, instrument: str) -> str:
    """A commented scene of a kind of world that was observed by an instrument.

    Args:
        kind: As in `kind = "specimen"`.
        instrument: As in `type = "curve"`.

    Raises:
        SceneError: There is no such kind or instrument, or no template for the two.
    """
    for role, name, known in (("kind", kind, KINDS), ("observations", instrument, INSTRUMENTS)):
        if name not in known:
            raise SceneError(f"--{role} {name}: there is none; {nearest(name, known)}")
    if (kind, instrument) not in PAIRS:
        fit = ", ".join(f"--kind {a} --observations {b}" for a, b in PAIRS if kind == a or instrument == b)
        remedy = f"there is {fit}" if fit else "start from a scene that ships: --from NAME (simengine list scenes)"
        raise SceneError(f"--kind {kind} --observations {instrument}: no template for the two; {remedy}")
    observed, unknowns = PAIRS[kind, instrument]
    parts = [
        "# What is believed, what was measured, and what is sought; docs/keys.md has every key.\n"
        f'kind = "{kind}"\n{WORLDS[kind]}',
        f'[observations.measured]\ntype = "{instrument}"\n{observed}{_may(named_class("type", instrument), observed)}',
    ]
    if unknowns:
        parts.append(f"[unknowns]  # bounds, unit and scale come from the key\n{unknowns}")
        parts.append("[inference]\n" + _may(Inference, ""))
    return "\n".join(parts)


def _may(cls: type, said: str) -> str:
    """The keys that may be said as well, one a line, with their defaults; as comments."""
    given = {line.split("=")[0].strip() for line in said.splitlines()} | {"type"}
    return "".join(f"# {key_line(key)}\n" for key in keys_of(cls) if key.name not in given and not key.required)
