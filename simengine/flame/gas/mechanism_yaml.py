"""Reads mechanisms in Cantera's YAML format: ideal gases and mass-action kinetics."""

import dataclasses
import math
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from simengine.flame.gas.document import LinedTable, Node, find, listed, read_document, short
from simengine.flame.gas.mechanism import Mechanism, MechanismError
from simengine.flame.gas.reactions_yaml import ReactionReader
from simengine.flame.gas.species_yaml import Thermo, read_composition, read_thermo, read_transport
from simengine.flame.gas.through_cantera import CHEMKIN, convert_chemkin, is_solution, write_solution
from simengine.flame.gas.units import UnitSystem

# Standard atomic weights [g/mol] (IUPAC 2018, abridged), of the elements in combustion mechanisms.
ATOMIC_WEIGHTS = {
    "H": 1.008, "D": 2.0141017781, "He": 4.002602, "C": 12.011, "N": 14.007, "O": 15.999, "F": 18.998403163,
    "Ne": 20.1797, "Na": 22.98976928, "Mg": 24.305, "Al": 26.9815384, "Si": 28.085, "P": 30.973761998, "S": 32.06,
    "Cl": 35.45, "Ar": 39.95, "K": 39.0983, "Ca": 40.078, "Fe": 55.845, "Br": 79.904, "Kr": 83.798, "Xe": 131.293,
    "I": 126.90447, "E": 0.000548579909065,
}  # fmt: skip


def load_mechanism(source: Any, *, phase: str | None = None) -> Mechanism:
    """Read a mechanism.

    Args:
        source: A file, looked for in Cantera's data folder too; or the name of a mechanism that ships with simengine
            (`methane_1step`) or with Cantera (`gri30`). Through Cantera, where it is installed: a CHEMKIN file (.inp,
            .ck, .dat; `therm.dat` and `tran.dat` beside it) and a `cantera.Solution`.
        phase: Name of the phase; None for the first ideal gas.

    Raises:
        MechanismError: The file does not exist, is broken, or holds what is not supported.
    """
    if is_solution(source) or Path(source).suffix in CHEMKIN:
        with tempfile.TemporaryDirectory() as folder:
            convert = write_solution if is_solution(source) else convert_chemkin
            return _MechanismReader(convert(source if is_solution(source) else Path(source), Path(folder))).mechanism(
                phase
            )
    path = Path(source)
    if not path.suffix:
        shipped = Path(str(files("simengine.assets"))) / f"{source}.yaml"
        path = shipped if shipped.is_file() else find(f"{source}.yaml")
    return _MechanismReader(find(path)).mechanism(phase)


@dataclasses.dataclass(frozen=True)
class _Section:
    """Entries of a section, and which of them a phase takes: names, `all` or `declared-species`."""

    entries: list[Node]
    wanted: Any


class _MechanismReader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.roots: dict[Path, Node] = {}
        self.root = self._document(path)
        for key in ("phases", "species"):
            if key not in self.root and not (key == "species" and "phases" in self.root):
                raise self.root.fail("expected a table with `phases` and `species`")

    def _document(self, path: Path) -> Node:
        if path not in self.roots:
            self.roots[path] = Node.of(read_document(path), file=path.name, what="file", units=UnitSystem())
        return self.roots[path]

    def mechanism(self, phase_name: str | None) -> Mechanism:
        phases = {node.text("name"): node for node in self.root.rows("phases", "phase", named="name")}
        if not phases:
            raise self.root.fail("phases: the list is empty")
        if phase_name is not None and phase_name not in phases:
            raise self.root.fail(f"phases: no phase {phase_name!r}; phases: {listed(phases)}")
        gases = [node for node in phases.values() if node.get("thermo", None) == "ideal-gas"]
        phase = phases[phase_name] if phase_name is not None else (gases or list(phases.values()))[0]
        if (thermo := phase.get("thermo", None)) != "ideal-gas":
            raise phase.fail(f"thermo is {short(thermo)}; only ideal-gas is supported")
        entries = self._species(phase)
        names = tuple(entries)
        atoms = [read_composition(entry) for entry in entries.values()]
        elements = tuple(dict.fromkeys(element for row in atoms for element in row))
        composition = torch.tensor([[row.get(e, 0.0) for e in elements] for row in atoms], dtype=torch.float64)
        W = composition @ self._weights(elements)
        for entry, mass in zip(entries.values(), W.tolist(), strict=True):
            if not 0 < mass < 10:
                raise entry.fail(f"composition: a molar mass of {mass:g} kg/mol cannot be")
        nasa, breaks, T_range, p_ref = _polynomials([read_thermo(entry) for entry in entries.values()])
        if T_range[0] >= T_range[1]:
            raise phase.fail(f"the species have no temperature in common ({T_range[0]:g} K to {T_range[1]:g} K)")
        reader = ReactionReader(names, elements, composition, lenient=phase.flag("skip-undeclared-third-bodies"))
        for section in self._reactions(phase):
            reader.read(section.entries, skip=section.wanted == "declared-species")
        return Mechanism(
            name=self.path.name,
            species=names,
            elements=elements,
            composition=composition,
            W=W,
            nasa=nasa,
            breaks=breaks,
            T_range=T_range,
            p_ref=p_ref,
            transport=tuple(read_transport(entry) for entry in entries.values()),
            reactions=reader.reactions(),
        )

    def _section(self, owner: Node, name: str, what: str, named: str) -> list[Node]:
        """A list of this file, or of another as in `gri30.yaml/species`."""
        file, _, key = name.rpartition("/")
        root = self.root
        if file:
            path = find(file, self.path.parent)
            if not path.is_file():
                raise owner.fail(f"{name[:80]}: no file {file[:80]} beside this one or in Cantera's data folder")
            root = self._document(path)
        if key not in root:
            raise owner.fail(f"section {name[:80]!r} is not in {root.file}; it has {listed(root.data)}")
        return root.rows(key, what, named=named)

    def _species(self, phase: Node) -> dict[str, Node]:
        """The species of a phase, in its order."""
        wanted, sections = phase.get("species", "all"), list[_Section]()
        rows = wanted if isinstance(wanted, list) else [wanted]
        names = [row for row in rows if not isinstance(row, dict)]
        if wanted == "all" or names:
            sections.append(
                _Section(self._section(phase, "species", "species", "name"), "all" if wanted == "all" else names)
            )
        for row in rows:
            for section, chosen in row.items() if isinstance(row, dict) else ():
                sections.append(_Section(self._section(phase, str(section), "species", "name"), chosen))
        found: dict[str, Node] = {}
        skip = phase.flag("skip-undeclared-elements")
        declared = {str(e) for e in phase.items("elements")} if "elements" in phase else None
        for section in sections:
            defined = {node.text("name"): node for node in section.entries}
            if section.wanted != "all" and not isinstance(section.wanted, list):
                raise phase.fail(f"species: expected `all` or a list of names, got {short(section.wanted)}")
            for name in defined if section.wanted == "all" else section.wanted:
                if isinstance(name, (dict, list)) or str(name) not in defined:
                    raise phase.fail(
                        f"species {short(name)}: listed in the phase but not defined; define it or remove it"
                    )
                node = defined[str(name)]
                if skip and declared is not None and not set(read_composition(node)) <= declared:
                    continue
                if str(name) in found:
                    raise phase.fail(f"species {short(name)}: listed twice")
                found[str(name)] = node
        if not found:
            raise phase.fail("species: there is none")
        return found

    def _reactions(self, phase: Node) -> list[_Section]:
        """The sections a phase takes reactions from, and by which rule."""
        if "kinetics" not in phase:
            return []
        wanted = phase.get("reactions", "all" if "reactions" in self.root else "none")
        if not isinstance(wanted, list):
            wanted = [LinedTable({"reactions": wanted})]
        sections = []
        for row in wanted:
            rules = row if isinstance(row, dict) else {row: "all"} if isinstance(row, str) else None
            if rules is None:
                raise phase.fail(f"reactions: expected names of sections, got {short(row)}")
            for name, rule in rules.items():
                if rule not in ("all", "declared-species", "none"):
                    raise phase.fail(f"reactions: expected all, declared-species or none, got {short(rule)}")
                if rule != "none":
                    sections.append(_Section(self._section(phase, str(name), "reaction", "equation"), rule))
        return sections

    def _weights(self, elements: tuple[str, ...]) -> torch.Tensor:
        """Atomic masses [kg/mol], (E,)."""
        own = {
            node.text("symbol"): node.number("atomic-weight", least=0.0)
            for node in (self.root.rows("elements", "element", named="symbol") if "elements" in self.root else [])
        }
        for element in elements:
            if element not in own and element not in ATOMIC_WEIGHTS:
                told = "not known; add it to the file's `elements` with its weight"
                raise MechanismError(f"{self.path.name}: element {short(element)}: {told}")
        return torch.tensor([own.get(e, ATOMIC_WEIGHTS.get(e, 0.0)) * 1e-3 for e in elements], dtype=torch.float64)


def _polynomials(data: list[Thermo]) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float], float]:
    """NASA-9 coefficients (K, G, 9) at one reference pressure, breaks (K, G - 1), the common range, that pressure."""
    p_ref, most = data[0].pressure, max(len(species.rows) for species in data)
    nasa, breaks = [], []
    for rows, limits, pressure in data:
        shift = math.log(pressure / p_ref) if pressure != p_ref else 0.0  # of s/R to the common pressure
        moved = [[*row[:8], row[8] + shift] for row in rows]
        nasa.append(moved + [moved[-1]] * (most - len(rows)))
        breaks.append(limits[1:-1] + [math.inf] * (most - len(rows)))
    return (
        torch.tensor(nasa, dtype=torch.float64),
        torch.tensor(breaks, dtype=torch.float64).reshape(len(data), most - 1),
        (max(species.limits[0] for species in data), min(species.limits[-1] for species in data)),
        p_ref,
    )
