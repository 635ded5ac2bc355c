"""Uncertainty factors from a file: what is known of each reaction, by its equation."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from simengine.io.tables import read_table
from simengine.scene.address import parts_of
from simengine.scene.base import SceneError
from simengine.scene.sought import FactorFile
from simengine.scene.strict import nearest


def factor_of(spec: float | FactorFile, name: str) -> float:
    """The uncertainty factor of one number.

    Args:
        spec: A factor, or a file of them.
        name: Key of the number, as in `gas.reactions."H + O2 <=> O + OH".factor`.

    Raises:
        SceneError: The file does not tell one, and nothing is said of others.
    """
    if not isinstance(spec, FactorFile):
        return spec
    known = factors(spec)
    found = next((known[part] for part in parts_of(name) if part in known), spec.otherwise)
    if found is None:
        raise SceneError(f"unknowns.{name}.prior: {spec.file.name} has no row for it; add one, or tell `otherwise`")
    return found


def check_names(spec: FactorFile, names: Sequence[str], key: str) -> None:
    """Refuse a file with a row that names none of the numbers.

    Raises:
        SceneError: With the row and the nearest name.
    """
    known = {part for name in names for part in parts_of(name)}
    for row in factors(spec):
        if row not in known:
            raise SceneError(f"unknowns.{key}.prior: {spec.file.name}: {row!r} is not sought; {nearest(row, known)}")


def factors(spec: FactorFile) -> Mapping[str, float]:
    """Name -> factor, as the file tells them.

    Raises:
        SceneError: There is no such file or column, or a factor is not above 1.
    """
    stamp = spec.file.stat().st_mtime_ns if spec.file.is_file() else 0
    return _read(spec.file, spec.names, spec.column, stamp)


@lru_cache(maxsize=8)
def _read(file: Path, names: str, column: str, stamp: int) -> Mapping[str, float]:
    try:
        raw = read_table(file)
    except ValueError as error:
        raise SceneError(f"prior.uncertainty_factor.file: {error}") from None
    for header in (names, column):
        if header not in raw.columns:
            known = nearest(header, raw.columns)
            raise SceneError(f"prior.uncertainty_factor: {file.name} has no column {header!r}; {known}")
    found: dict[str, float] = {}
    for row, (name, cell) in enumerate(zip(raw.columns[names], raw.columns[column], strict=True)):
        if raw.columns[column].dtype.kind != "f" or not float(cell) > 1:
            raise SceneError(f"{file.name}: row {row}: {column} of {str(name)!r} is {cell}; a factor is above 1")
        if str(name) in found:
            raise SceneError(f"{file.name}: row {row}: {str(name)!r} stands there twice")
        found[str(name)] = float(cell)
    return found
