"""Reads mechanisms in Cantera's YAML format: ideal gases with NASA polynomials and mass-action kinetics."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from simengine.flame.gas.mechanism import LennardJones, Mechanism, MechanismError, Reactions
from simengine.flame.gas.units import UnitError, Units, number
from simengine.shown import shown
from simengine.text import read_text

# Standard atomic weights [g/mol] (IUPAC 2018, abridged), of the elements in combustion mechanisms.
ATOMIC_WEIGHTS = {
    "H": 1.008, "D": 2.0141017781, "He": 4.002602, "C": 12.011, "N": 14.007, "O": 15.999, "F": 18.998403163,
    "Ne": 20.1797, "Na": 22.98976928, "Mg": 24.305, "Al": 26.9815384, "Si": 28.085, "P": 30.973761998, "S": 32.06,
    "Cl": 35.45, "Ar": 39.95, "K": 39.0983, "Ca": 40.078, "Fe": 55.845, "Br": 79.904, "Kr": 83.798, "Xe": 131.293,
    "I": 126.90447, "E": 0.000548579909065,
}  # fmt: skip
MAX_ENTRIES = 10_000_000  # of a file with its aliases written out; the largest published mechanisms have a tenth
DEBYE = 1e-21 / 299792458  # C m
BOLTZMANN = 1.380649e-23  # J/K


def load_mechanism(source: str | Path, *, phase: str | None = None) -> Mechanism:
    """Read a mechanism.

    Args:
        source: A file, or the name of a mechanism that ships with simengine (`methane_1step`).
        phase: Name of the phase; None for the first.

    Raises:
        MechanismError: The file does not exist, is broken, or holds what is not supported.
    """
    import yaml

    path = Path(source)
    if not path.suffix:
        path = Path(str(files("simengine.assets"))) / f"{source}.yaml"
    try:
        data = yaml.load(read_text(path), Loader=_loader())
        _refuse_bomb(data, {})
    except OSError as error:
        raise MechanismError(
            f"{path}: {error.strerror}; give a .yaml file or the name of a shipped mechanism"
        ) from error
    except yaml.YAMLError as error:
        raise MechanismError(f"{path}: not valid YAML: {re.sub(chr(92) + 's+', ' ', str(error))}") from error
    except RecursionError:
        raise MechanismError(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise MechanismError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    if not isinstance(data, dict) or "phases" not in data or "species" not in data:
        raise MechanismError(f"{path}: expected a table with `phases` and `species`")
    return _Reader(data, path.name).mechanism(phase)


def _refuse_bomb(data: Any, sizes: dict[int, int]) -> int:
    """The number of entries of nested data, aliases counted each time; raises where aliases make it explode."""
    if not isinstance(data, dict | list):
        return 1
    if id(data) not in sizes:
        sizes[id(data)] = MAX_ENTRIES  # for what holds itself
        inside = data.values() if isinstance(data, dict) else data
        sizes[id(data)] = 1 + sum(_refuse_bomb(item, sizes) for item in inside)
    if sizes[id(data)] > MAX_ENTRIES:
        raise ValueError(f"aliases (*name) blow it up to more than {MAX_ENTRIES} entries; write them out")
    return sizes[id(data)]


def _loader() -> Any:
    """YAML's safe loader without the words of YAML 1.1 for booleans, of which NO and N are species."""
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    boolean = "tag:yaml.org,2002:bool"
    kept = {
        letter: [entry for entry in entries if entry[0] != boolean]
        for letter, entries in base.yaml_implicit_resolvers.items()
    }
    loader: Any = type("MechanismLoader", (base,), {"yaml_implicit_resolvers": kept})
    loader.add_implicit_resolver(boolean, re.compile("^(?:true|false)$"), list("tf"))
    return loader


class _Reader:
    def __init__(self, data: dict[str, Any], name: str) -> None:
        self.data, self.name = data, name
        self.units = Units(data.get("units"))

    def fail(self, what: str, message: str) -> MechanismError:
        return MechanismError(f"{self.name}: {what}: {message}")

    def mechanism(self, phase_name: str | None) -> Mechanism:
        phases = {entry["name"]: entry for entry in self.data["phases"]}
        if phase_name is not None and phase_name not in phases:
            raise self.fail("phases", f"no phase {shown(phase_name)}; phases: {', '.join(phases)}")
        phase = phases[phase_name] if phase_name is not None else self.data["phases"][0]
        if phase.get("thermo") != "ideal-gas":
            raise self.fail(
                f"phase {phase['name']}", f"thermo is {shown(phase.get('thermo'))}; only ideal-gas is supported"
            )
        defined = {entry["name"]: entry for entry in self.data["species"]}
        wanted = phase.get("species", "all")
        names = tuple(defined) if wanted == "all" else tuple(str(name) for name in wanted)
        for name in names:
            if name not in defined:
                raise self.fail(f"species {name}", "listed in the phase but not defined; define it or remove it")
        entries = [defined[name] for name in names]
        elements = tuple(dict.fromkeys(e for entry in entries for e in entry["composition"]))
        weights = self._weights(elements)
        composition = torch.tensor(
            [[number(entry["composition"].get(e, 0)) for e in elements] for entry in entries], dtype=torch.float64
        )
        nasa, breaks, T_range, p_ref = self._thermo(entries)
        reactions = self._reactions(phase, names, elements, composition)
        return Mechanism(
            name=self.name,
            species=names,
            elements=elements,
            composition=composition,
            W=composition @ weights,
            nasa=nasa,
            breaks=breaks,
            T_range=T_range,
            p_ref=p_ref,
            transport=tuple(self._transport(entry) for entry in entries),
            reactions=reactions,
        )

    def _weights(self, elements: tuple[str, ...]) -> torch.Tensor:
        own = {entry["symbol"]: number(entry["atomic-weight"]) for entry in self.data.get("elements", [])}
        for element in elements:
            if element not in own and element not in ATOMIC_WEIGHTS:
                raise self.fail(f"element {element}", "not known; add it to the file's `elements` with its weight")
        return torch.tensor([own.get(e, ATOMIC_WEIGHTS.get(e, 0.0)) * 1e-3 for e in elements], dtype=torch.float64)

    def _thermo(self, entries: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float], float]:
        ranges: list[list[list[float]]] = []
        limits: list[list[float]] = []
        pressures = set()
        for entry in entries:
            what, thermo = f"species {entry['name']}", entry.get("thermo", {})
            model = thermo.get("model")
            if model not in ("NASA7", "NASA9"):
                raise self.fail(what, f"thermo model {shown(model)} is not supported; use NASA7 or NASA9")
            pressures.add(self.units.convert(thermo.get("reference-pressure", "1 atm"), self.units.names["pressure"]))
            temperatures = [number(T) for T in thermo["temperature-ranges"]]
            rows = [[number(a) for a in row] for row in thermo["data"]]
            length = 7 if model == "NASA7" else 9
            if len(rows) == 1 and model == "NASA7" and len(temperatures) == 3:
                rows = rows * 2
            if len(rows) != len(temperatures) - 1 or any(len(row) != length for row in rows):
                raise self.fail(what, f"expected {length} coefficients for each of {len(temperatures) - 1} ranges")
            ranges.append([[0.0, 0.0, *row] if length == 7 else row for row in rows])
            limits.append(temperatures)
        if len(pressures) > 1:
            raise self.fail("species", f"reference pressures differ: {sorted(pressures)} Pa; use one")
        most = max(len(rows) for rows in ranges)
        nasa = [rows + [rows[-1]] * (most - len(rows)) for rows in ranges]
        breaks = [T[1:-1] + [float("inf")] * (most - len(T) + 1) for T in limits]
        span = (max(T[0] for T in limits), min(T[-1] for T in limits))
        return (
            torch.tensor(nasa, dtype=torch.float64),
            torch.tensor(breaks, dtype=torch.float64).reshape(len(entries), most - 1),
            span,
            pressures.pop(),
        )

    def _transport(self, entry: dict[str, Any]) -> LennardJones | None:
        data = entry.get("transport")
        if data is None:
            return None
        geometry = {"atom": 0.0, "linear": 1.0, "nonlinear": 1.5}.get(data.get("geometry"))
        if geometry is None or "well-depth" not in data or "diameter" not in data:
            raise self.fail(f"species {entry['name']}", "transport needs geometry, well-depth [K] and diameter [A]")
        return LennardJones(
            geometry=geometry,
            well_depth=number(data["well-depth"]) * BOLTZMANN,
            diameter=number(data["diameter"]) * 1e-10,
            dipole=number(data.get("dipole", 0.0)) * DEBYE,
            polarizability=number(data.get("polarizability", 0.0)) * 1e-30,
            rotational_relaxation=number(data.get("rotational-relaxation", 0.0)),
        )

    def _reactions(
        self, phase: dict[str, Any], names: tuple[str, ...], elements: tuple[str, ...], composition: torch.Tensor
    ) -> Reactions:
        rows = []
        listed = phase.get("reactions", "all") if "kinetics" in phase else "none"
        for entry in self.data.get("reactions", []) if listed != "none" else []:
            equation = str(entry["equation"]).strip()
            sides = self._sides(equation, names, skip=listed == "declared-species")
            if sides is None:
                continue
            try:
                rows.append(self._reaction(entry, equation, sides, names, elements, composition))
            except UnitError as error:
                raise self.fail(f"reaction {shown(equation)}", str(error)) from error

        def column(key: str, dtype: torch.dtype = torch.float64, width: int = 0) -> torch.Tensor:
            if not rows:
                return torch.zeros((0, width) if width else (0,), dtype=dtype)
            return torch.tensor([row[key] for row in rows], dtype=dtype)

        count = len(names)
        return Reactions(
            equations=tuple(row["equation"] for row in rows),
            reactants=column("reactants", width=count),
            products=column("products", width=count),
            orders=column("orders", width=count),
            reversible=column("reversible", torch.bool),
            A=column("A"),
            b=column("b"),
            Ea=column("Ea"),
            third_body=column("third_body", torch.bool),
            falloff=column("falloff", torch.bool),
            efficiencies=column("efficiencies", width=count),
            A_low=column("A_low"),
            b_low=column("b_low"),
            Ea_low=column("Ea_low"),
            troe=column("troe", torch.bool),
            troe_parameters=column("troe_parameters", width=4),
        )

    def _sides(self, equation: str, names: tuple[str, ...], *, skip: bool) -> dict[str, Any] | None:
        """The two sides as coefficients, the collider (`M`, `(+M)` or a species) and whether it is reversible."""
        match = re.fullmatch(r"(.+?)\s+(<=>|=>|=)\s+(.+)", equation)
        if match is None:
            raise self.fail(
                f"reaction {shown(equation)}", "expected two sides joined by =>, <=> or =, with blanks around it"
            )
        found: dict[str, Any] = {"reversible": match[2] != "=>", "collider": None}
        for side, text in (("reactants", match[1]), ("products", match[3])):
            falloff = re.search(r"\(\+\s*([^)]+?)\s*\)\s*$", text)
            if falloff:
                found["collider"] = (falloff[1], True)
                text = text[: falloff.start()]
            coefficients = dict.fromkeys(names, 0.0)
            for term in re.split(r"\s+\+\s+", text.strip()):
                words = term.split()
                count, name = (number(words[0]), words[1]) if len(words) == 2 else (1.0, words[0])
                if name == "M" and "M" not in names:
                    found["collider"] = ("M", False)
                elif name not in names:
                    if skip:
                        return None
                    raise self.fail(f"reaction {shown(equation)}", f"species {shown(name)} is not in the phase")
                else:
                    coefficients[name] += count
            found[side] = coefficients
        return found

    def _reaction(
        self,
        entry: dict[str, Any],
        equation: str,
        sides: dict[str, Any],
        names: tuple[str, ...],
        elements: tuple[str, ...],
        composition: torch.Tensor,
    ) -> dict[str, Any]:
        what = f"reaction {shown(equation)}"
        kind = entry.get("type", "elementary")
        if kind not in ("elementary", "three-body", "falloff", "Arrhenius", "three-body-Arrhenius"):
            raise self.fail(what, f"type {shown(kind)} is not supported; supported: elementary, three-body, falloff")
        reactants, products = ([sides[s][n] for n in names] for s in ("reactants", "products"))
        change = torch.tensor(products, dtype=torch.float64) - torch.tensor(reactants, dtype=torch.float64)
        surplus = change @ composition
        for element, value in zip(elements, surplus.tolist(), strict=True):
            if abs(value) > 1e-6:
                raise self.fail(what, f"not balanced in {element}: {value:+g} atoms; correct the coefficients")
        orders = dict(zip(names, reactants, strict=True))
        for name, order in (entry.get("orders") or {}).items():
            if name not in orders:
                raise self.fail(what, f"an order is given for {shown(name)}, which is not in the phase")
            if sides["reversible"]:
                raise self.fail(what, "explicit orders need an irreversible reaction; write it with =>")
            orders[name] = number(order)
        total = sum(orders.values())
        collider, parenthesised = sides["collider"] or (None, False)
        falloff = kind == "falloff"
        if falloff != parenthesised:
            raise self.fail(what, "a fall-off reaction has type falloff and (+M) on both sides")
        third = collider == "M" and not falloff
        given = entry.get("efficiencies") or {}
        default = number(entry.get("default-efficiency", 1.0))
        if collider not in (None, "M"):
            given, default = {collider: 1.0}, 0.0
        for name in given:
            if name not in names:
                raise self.fail(what, f"efficiency of {shown(name)}, which is not in the phase")
        high = entry.get("high-P-rate-constant" if falloff else "rate-constant")
        low = entry.get("low-P-rate-constant") if falloff else {"A": 1.0}
        if high is None or low is None:
            needed = "low-P-rate-constant and high-P-rate-constant" if falloff else "rate-constant"
            raise self.fail(what, f"{needed} missing")
        if "SRI" in entry or "Tsang" in entry:
            raise self.fail(what, "fall-off forms other than Lindemann's and Troe's are not supported")
        troe = entry.get("Troe") if falloff else None
        parameters = [0.0, 1.0, 1.0, float("inf")]
        if troe is not None:
            parameters = [number(troe["A"]), number(troe["T3"]), number(troe["T1"]), number(troe.get("T2", "inf"))]
        units = self.units
        return {
            "equation": equation,
            "reactants": reactants,
            "products": products,
            "orders": [orders[n] for n in names],
            "reversible": sides["reversible"],
            "A": units.rate(high["A"], total + third),
            "b": number(high.get("b", 0.0)),
            "Ea": units.activation(high.get("Ea", 0.0)),
            "third_body": third,
            "falloff": falloff,
            "efficiencies": [number(given.get(n, default)) for n in names],
            "A_low": units.rate(low["A"], total + 1) if falloff else 1.0,
            "b_low": number(low.get("b", 0.0)),
            "Ea_low": units.activation(low.get("Ea", 0.0)),
            "troe": troe is not None,
            "troe_parameters": parameters,
        }
