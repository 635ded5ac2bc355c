"""`simengine export`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

STATES = ("states.npz", "fitted.npz", "motion.npz", "profiles.npz", "solution.npz")  # what runs and fits leave


def export(
    run: Path,
    *,
    out: Annotated[Path, Parameter(help="File: .csv, .npz, .h5, .ply, .vtp, .pvd, .glb; of a sweep .parquet, .nc.")],
    of: Annotated[str | None, Parameter(help="Which .npz of the run; the states or the solution if left out.")] = None,
    surfaces: Annotated[
        bool, Parameter(help="Into a .glb as bodies that move: their surfaces, balls, colliders.", negative=())
    ] = False,
) -> int:
    """Write the states or the solution of a run, or the table of a sweep, for other programs.

    Particles go to .csv as a row for each at each time, to .ply and .vtp as numbered files, to .pvd as a series for
    ParaView. A sweep goes to .parquet as its table and to .nc (netCDF) with what was varied as axes.

    Args:
        run: A run directory, or the folder of a sweep.
    """
    from simengine.io.arrays import read_npz
    from simengine.io.export import export as write_out

    if not run.is_dir():
        raise ValueError(f"{run}: not a run directory; simengine run SCENE --out {run} makes one")
    if (run / "sweep.json").is_file():
        from simengine.fit.sweep import swept
        from simengine.io.frames import write_frame

        keys, rows = swept(run)
        write_frame(out, rows, keys)
        print(out)
        return 0
    if surfaces:
        _write_surfaces(run, out)
        return 0
    there = sorted(path.name for path in run.glob("*.npz"))
    chosen = of or next((name for name in STATES if name in there), None)
    if chosen is None or chosen not in there:
        told = f"it holds {', '.join(there)}; name one by --of" if there else "it holds no .npz at all"
        raise ValueError(f"{run}: {f'no {of} there' if of else 'no states and no solution there'}; {told}")
    written = write_out(read_npz(run / chosen), out)
    print(written[0] if len(written) == 1 or out.suffix == ".pvd" else f"{written[0]} ... {written[-1].name}")
    return 0


def _write_surfaces(run: Path, out: Path) -> None:
    """The bodies of a run as glTF.

    Raises:
        ValueError: It is asked for in another format, or of a run without a scene or without bodies that move.
    """
    from simengine.io.geometry.glb import write_moving
    from simengine.scene.loader import load_world
    from simengine.worlds.motion.showing import moving_bodies

    if out.suffix.lower() != ".glb":
        raise ValueError(f"--surfaces: they are written as .glb, got {out.name}")
    if not (run / "scene.toml").is_file():
        raise ValueError(f"{run}: not a run directory (no scene.toml)")
    write_moving(out, *moving_bodies(load_world(run / "scene.toml"), run))
    print(out)
