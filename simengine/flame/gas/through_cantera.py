"""Mechanisms that Cantera reads for us, where it is installed: CHEMKIN files, and a `cantera.Solution` as it is."""

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any

from simengine.flame.gas.mechanism import MechanismError

CHEMKIN = (".inp", ".ck", ".chemkin", ".dat")
THERMO = ("therm.dat", "thermo.dat", "thermdat", "thermo.inp", "therm.inp")
TRANSPORT = ("tran.dat", "transport.dat", "trandat", "tran.inp", "transport.inp")


def is_solution(source: object) -> bool:
    """Whether this is a `cantera.Solution`, without importing Cantera."""
    return type(source).__module__.partition(".")[0] == "cantera" and hasattr(source, "write_yaml")


def write_solution(solution: Any, folder: Path) -> Path:
    """A `cantera.Solution` as a YAML file in a folder."""
    file = folder / f"{solution.name}.yaml"
    solution.write_yaml(str(file), precision=17)
    return file


def convert_chemkin(path: Path, folder: Path) -> Path:
    """A CHEMKIN file as YAML in a folder, by Cantera's ck2yaml; thermo and transport data by their names beside it.

    Raises:
        MechanismError: Cantera is not installed, or cannot read the files.
    """
    if not path.is_file():
        raise MechanismError(f"{path}: no such file")
    if importlib.util.find_spec("cantera") is None:
        raise MechanismError(f"{path}: a CHEMKIN file is read by Cantera, which is not installed; pip install cantera")
    from cantera import ck2yaml

    beside = {file.name.lower(): file for file in path.parent.iterdir()}
    thermo, transport = (next((beside[n] for n in names if n in beside), None) for names in (THERMO, TRANSPORT))
    file, said = folder / f"{path.stem}.yaml", io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            ck2yaml.convert(
                str(path),
                thermo_file=None if thermo is None else str(thermo),
                transport_file=None if transport is None else str(transport),
                out_name=str(file),
                quiet=True,
            )
    except (Exception, SystemExit) as error:  # ck2yaml raises whatever its parser meets
        told = " ".join(str(error).split())[:200]
        raise MechanismError(
            f"{path}: ck2yaml: {told}; thermodynamic data are in the file or beside it as {THERMO[0]}"
        ) from error
    return file
