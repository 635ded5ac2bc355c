"""Fields on grids, as arrays with an axis for time and for each place: HDF5 (PDEBench's too, and netCDF 4) and npz."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simengine.io.tables import RawTable, file_hash
from simengine.scene.strict import nearest

MOST = 1 << 24  # values of a field that are taken
HDF5 = (".h5", ".hdf5", ".hdf", ".nc")


def read_grids(
    path: Path,
    *,
    axes: Mapping[str, str],
    fields: Sequence[str],
    group: str = "",
    member: int | None = None,
    every: Mapping[str, int] | None = None,
) -> RawTable:
    """The points of a grid as rows of a table, the last axis fastest.

    A field's axes are those that are named, in their order; what has one value only counts as none. An axis with one
    value more than the field has, as the edges of time steps in PDEBench's files, is used without its last.

    Args:
        path: The file.
        axes: Coordinate -> name of its values in the file, (n,), in the order of the fields' axes.
        fields: Names of the fields' values in the file.
        group: Of an HDF5 file, in which both are; "" for its root.
        member: Number along the first axis, of files whose fields have one more.
        every: Coordinate -> of its values every which one is taken.

    Raises:
        ValueError: The file holds no such arrays, or their shapes do not go together.
    """
    if path.suffix.lower() in HDF5:
        try:
            import h5py
        except ImportError:
            raise ValueError(f"{path.name}: to read HDF5, pip install h5py") from None
        try:
            with h5py.File(path, "r") as file:
                known: list[str] = []
                file.visititems(lambda name, item: known.append(name) if isinstance(item, h5py.Dataset) else None)
                root = f"{group.strip('/')}/" if group else ""
                columns = _columns(path, lambda name: file.get(root + name), known, axes, fields, member, every or {})
        except (OSError, RuntimeError, KeyError) as error:  # the library raises what its C code does
            raise ValueError(f"{path.name}: not a readable HDF5 file ({' '.join(str(error).split())[:120]})") from None
    elif path.suffix.lower() == ".npz":
        from simengine.io.arrays import read_npz

        arrays = read_npz(path)
        if group:
            raise ValueError(f"{path.name}: group: an .npz has none; leave it out")
        columns = _columns(path, arrays.get, list(arrays), axes, fields, member, every or {})
    else:
        raise ValueError(f"{path.name}: a grid is an HDF5 ({', '.join(HDF5)}) or .npz file")
    return RawTable(path, columns, file_hash(path))


def _columns(
    path: Path,
    get: Callable[[str], Any],
    known: Sequence[str],
    axes: Mapping[str, str],
    fields: Sequence[str],
    member: int | None,
    every: Mapping[str, int],
) -> dict[str, NDArray[Any]]:
    def array(name: str) -> Any:
        found = get(name)
        if found is None or not hasattr(found, "shape"):
            raise ValueError(f"{path.name} has no array {name!r}; {nearest(name, known)}")
        if found.dtype.kind not in "fiub":
            raise ValueError(f"{path.name}: {name!r} holds {found.dtype}, no numbers")
        return found

    if strange := next((name for name in every if name not in axes), None):
        raise ValueError(f"every: {strange!r} is no axis; {nearest(strange, axes)}")
    lines = {axis: np.asarray(array(name)[()], dtype=np.float64).ravel() for axis, name in axes.items()}
    values: dict[str, NDArray[Any]] = {}
    sizes: tuple[int, ...] = ()
    for name in fields:
        own = array(name)
        at: Any = ()
        shape = own.shape
        if member is not None:
            if not 0 <= member < shape[0]:
                raise ValueError(f"member: expected 0 to {shape[0] - 1}, the first axis of {name!r}, got {member}")
            at, shape = (member,), shape[1:]
        shape = tuple(n for n in shape if n != 1) if len(shape) != len(lines) else shape
        lengths = tuple(len(line) for line in lines.values())
        if len(shape) != len(lines) or not all(n in (m, m - 1) for n, m in zip(shape, lengths, strict=True)):
            told = ", ".join(f"{axis} {n}" for axis, n in zip(lines, lengths, strict=True))
            more = "; give `member`" if member is None and len(shape) == len(lines) + 1 else ""
            raise ValueError(f"{path.name}: {name!r} has the shape {own.shape}, and the axes are {told}{more}")
        if sizes and shape != sizes:
            raise ValueError(f"{path.name}: {name!r} has the shape {shape}, and {fields[0]!r} {sizes}")
        sizes = shape
        steps = tuple(slice(None, None, every.get(axis, 1)) for axis in lines)
        if np.prod([len(range(n)[step]) for n, step in zip(shape, steps, strict=True)]) > MOST:
            raise ValueError(f"{path.name}: {name!r} has more than {MOST} values; take fewer by `every`")
        values[name] = np.asarray(own[at], dtype=np.float64).reshape(shape)[steps].ravel()
    thin = [line[:n][:: every.get(axis, 1)] for (axis, line), n in zip(lines.items(), sizes, strict=True)]
    places = np.meshgrid(*thin, indexing="ij")
    return {**{axes[axis]: place.ravel() for axis, place in zip(lines, places, strict=True)}, **values}
