"""The unknowns of a scene as coordinates that an optimiser may move freely, each with its prior.

A positive number moves in its logarithm, one with two bounds on a logistic, any other in units of its scale. The bounds
are those of the key (`Range`), which the scene may narrow; the scale is the prior's width, else the number itself, else
the typical size of the world in that unit.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from simengine.fit.coordinate import Coordinate, Target
from simengine.fit.joint_prior import JointPrior, alike
from simengine.scene.address import Number, joined, named, numbers, parts_of, resolve, value_at
from simengine.scene.base import SceneError
from simengine.scene.factors import check_names, factor_of
from simengine.scene.grammar import BASE, Scene
from simengine.scene.instrument import AbstractInstrument, Measured
from simengine.scene.sought import FactorFile, Prior, Unknown
from simengine.scene.strict import nearest

PER_COLUMN = ("offset", "gain")


def coordinates(scene: Scene, instruments: Mapping[str, AbstractInstrument]) -> list[Coordinate]:
    """What a scene seeks, scalar by scalar.

    Args:
        scene: The scene.
        instruments: Its observations, prepared.

    Raises:
        SceneError: A key names nothing, a start lies beyond its bounds, or a scale is missing.
    """
    taken: set[Target] = set()
    found: list[Coordinate] = []
    # the more special key wins over the star; then in the order of the file
    whole = scene.world.fields()  # sought as a whole, by `simengine.fit.fields.training`
    sought = [(key, unknown) for key, unknown in scene.unknowns.items() if key not in whole]
    order = sorted(sought, key=lambda item: _breadth(item[0], item[1]))
    for key, unknown in order:
        before = len(found)
        each = list(_groups(scene, instruments, key, unknown))
        if unknown.prior is not None and isinstance(unknown.prior.uncertainty_factor, FactorFile):
            check_names(unknown.prior.uncertainty_factor, [name for name, _ in each], key)
        for name, groups in each:
            free = [[target for target in group if target not in taken] for group in groups]
            own = _vector(scene, instruments, name, unknown, [group for group in free if group])
            taken.update(target for group in free for target in group)
            found += own
        names_all = _breadth(key, unknown)[1] == 0
        if names_all and len(found) == before and not _stays(unknown):
            raise SceneError(f"unknowns.{key}: every number that it names is set by another unknown already; drop one")
    position = {key: index for index, key in enumerate(scene.unknowns)}
    return sorted(found, key=lambda c: position.get(c.name.partition(" ")[0], len(position)))


def spread_out(
    instrument: AbstractInstrument, measured: Measured, unknowns: Mapping[str, Unknown]
) -> AbstractInstrument:
    """The instrument with a number of its own for each column, where an unknown is `per` column.

    Raises:
        SceneError: The key does not take a number for each.
    """
    for key, unknown in unknowns.items():
        if unknown.per is None:
            continue
        first, *rest = parts_of(key)
        if first != "observations":
            raise SceneError(f"unknowns.{key}.per: only numbers of an observation have one for each of its columns")
        if rest[:1] not in (["*"], [instrument.name]):
            continue
        field = joined(rest[1:])
        if unknown.per != "column" and field == "gain" and hasattr(instrument, "gain_by"):
            instrument = _by_group(instrument, measured, key, unknown.per)
            continue
        if unknown.per != "column" or field not in PER_COLUMN:
            raise SceneError(
                f"unknowns.{key}.per: {unknown.per!r} is not possible here; {' and '.join(PER_COLUMN)} take "
                f'per = "column"'
            )
        value = getattr(instrument, field)
        if not isinstance(value, tuple):
            instrument = dataclasses.replace(instrument, **{field: (value,) * len(measured.names)})  # type: ignore[arg-type]
    return instrument


def _by_group(instrument: AbstractInstrument, measured: Measured, key: str, header: str) -> AbstractInstrument:
    """The instrument with a gain for each word of a column."""
    if header not in measured.words:
        raise SceneError(f"unknowns.{key}.per: {header!r} is no column of words; {nearest(header, measured.words)}")
    count = len(set(measured.words[header]))
    gain = instrument.gain if isinstance(instrument.gain, tuple) else (instrument.gain,) * count
    if len(gain) != count:
        raise SceneError(f"observations.{instrument.name}.gain: {len(gain)} numbers for {count} groups of {header!r}")
    return dataclasses.replace(instrument, gain=gain, gain_by=header)  # type: ignore[call-arg]


def _breadth(key: str, unknown: Unknown) -> tuple[bool, int]:
    """How wide an unknown spreads: over all runs or all users of an instrument, then by its stars; the narrow win."""
    keys = [parts_of(sought) for sought in (unknown.sets or (key,))]
    shared = any(parts[0] not in ("runs", "observations") for parts in keys)
    return shared, sum("*" in part for parts in keys for part in parts)


def _stays(unknown: Unknown) -> bool:
    """Whether a width of 0 holds an entry where it is."""
    widths = unknown.prior.normal or unknown.prior.lognormal if unknown.prior is not None else None
    return isinstance(widths, tuple) and 0.0 in widths


def _groups(
    scene: Scene, instruments: Mapping[str, AbstractInstrument], key: str, unknown: Unknown
) -> Iterator[tuple[str, list[list[Target]]]]:
    """Name and, for each entry of the unknown, the places where its value goes."""
    if unknown.sets:
        groups = [
            group for sought in unknown.sets for _, own in named_groups(scene, instruments, sought) for group in own
        ]
        yield key, [[target for group in groups for target in group]]
        return
    yield from named_groups(scene, instruments, key)


def named_groups(
    scene: Scene, instruments: Mapping[str, AbstractInstrument], key: str
) -> Iterator[tuple[str, list[list[Target]]]]:
    """What a key names: numbers or vectors, with the places of each entry.

    Raises:
        SceneError: It names nothing; the message says `unknowns.KEY`.
    """
    first, *rest = parts_of(key)
    if first == "observations":
        names = _picked(rest, instruments, key)
        for name, inner in names:
            keys = _resolved(instruments[name], inner, key)
            for base, own in _by_vector(instruments[name], keys, inner):
                yield f"observations.{name}.{base}", [[("observation", name, k)] for k in own]
    elif first in ("instruments", "cameras", "lights"):
        users = {"instruments": scene.instrument_of, "cameras": scene.camera_of, "lights": scene.light_of}[first]
        shared = [name for name, used in users.items() if rest and used == rest[0]]
        if not shared:
            raise SceneError(f"unknowns.{key}: no observation uses {first}.{rest[0] if rest else ''}")
        part = first.removesuffix("s")
        inner = joined(rest[1:] if first == "instruments" else [part, *rest[1:]])
        keys = _resolved(instruments[shared[0]], inner, key)
        for base, own in _by_vector(instruments[shared[0]], keys, inner):
            label = base if first == "instruments" else base.removeprefix(f"{part}.")
            yield f"{first}.{rest[0]}.{label}", [[("observation", name, k) for name in shared] for k in own]
    elif first == "runs":
        for name, inner in _picked(rest, {n: w for n, w in scene.runs.items() if n != BASE}, key):
            keys = _resolved(scene.runs[name], inner, key)
            for base, own in _by_vector(scene.runs[name], keys, inner):
                yield f"runs.{name}.{named(scene.runs[name], base)}", [[("run", name, k)] for k in own]
    else:
        keys = _resolved(scene.world, key, key)
        for base, own in _by_vector(scene.world, keys, key):
            yield named(scene.world, base), [_in_runs(scene, k) for k in own]


def _in_runs(scene: Scene, key: str) -> list[Target]:
    """The runs that share a number of the world: those that do not set it themselves."""
    spelled = {key, named(scene.world, key)}
    above = {joined(parts_of(name)[:k]) for name in spelled for k in range(1, len(parts_of(name)) + 1)}
    found: list[Target] = []
    for name, world in scene.runs.items():
        if not above & scene.set_by_run.get(name, frozenset()) and key in numbers(world):
            found.append(("run", name, key))
    return found


def _picked(rest: Sequence[str], table: Mapping[str, object], key: str) -> list[tuple[str, str]]:
    """Names of a table that the first part (or, as in `round.0`, the first parts) picks, with the rest of the key."""
    if rest and rest[0] == "*":
        return [(name, joined(rest[1:])) for name in table]
    for count in (1, 2):
        name = ".".join(rest[:count])
        if name in table:
            return [(name, joined(rest[count:]))]
    several = [name for name in table if rest and name.startswith(f"{rest[0]}.")]
    if several:
        return [(name, joined(rest[1:])) for name in several]
    raise SceneError(f"unknowns.{key}: {rest[0] if rest else ''!r} is not defined; {nearest(rest[0], table)}")


def _resolved(tree: object, inner: str, key: str) -> list[str]:
    try:
        return resolve(tree, inner)
    except SceneError as error:
        raise SceneError(f"unknowns.{key}: {error}") from None


def _by_vector(tree: object, keys: Sequence[str], asked: str) -> Iterator[tuple[str, list[str]]]:
    """The keys grouped by the number or vector that they belong to."""
    depth = len(parts_of(asked))
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(joined(parts_of(key)[:depth]), []).append(key)
    yield from groups.items()


def _vector(
    scene: Scene,
    instruments: Mapping[str, AbstractInstrument],
    name: str,
    unknown: Unknown,
    groups: Sequence[Sequence[Target]],
) -> list[Coordinate]:
    """The coordinates of one unknown: a number, or the entries of a vector."""
    size, found = len(groups), []
    one = unknown.per is not None or (unknown.prior is not None and unknown.prior.field is not None)
    for entry, group in enumerate(groups):
        number = _number(scene, instruments, group[0])
        start = _entry(unknown.initial, entry, size, name)
        start = float(number.value) if start is None else start
        mean, sd, logarithmic = _prior(unknown.prior, start, entry, 1 if one else size, name)
        if sd == 0:
            continue  # stays where it is
        lower, upper = _bounds(unknown, number)
        if logarithmic:
            lower = max(lower, 0.0)
        if not lower < start < upper and not math.isnan(mean):
            start = math.exp(mean) if logarithmic else mean
        label = name if size == 1 else f"{name} {entry}"
        if not lower < start < upper:
            raise SceneError(
                f"unknowns.{name}: the search starts at {start:g}, and must start above {lower:g} and below {upper:g}; "
                f"give initial"
            )
        scale = unknown.scale or (sd if math.isfinite(sd) and not logarithmic else abs(start))
        if not scale and not (math.isfinite(lower) or math.isfinite(upper)):
            sizes = scene.world.sizes()
            scale = sizes.get(number.unit, 0.0)
            if not scale:
                raise SceneError(
                    f"unknowns.{name}: it starts at 0, and nothing tells how far it may move; give `scale` or a prior"
                )
        found.append(
            Coordinate(
                name=label,
                targets=tuple(group),
                start=start,
                lower=lower,
                upper=upper,
                scale=scale or 1.0,
                mean=mean,
                sd=sd,
                logarithmic=logarithmic,
                unit=number.unit,
                sentence=number.sentence,
            )
        )
    return _tied(scene, unknown.prior, found, name)


def _tied(scene: Scene, prior: Prior | None, vector: list[Coordinate], name: str) -> list[Coordinate]:
    """The entries of a vector with the prior that ties them, where there is one."""
    if prior is None or not prior.joint:
        return vector
    if len(vector) < 2:
        return vector  # one number: nothing to tie it to
    sd = torch.tensor([c.sd for c in vector], dtype=torch.float64)
    if prior.field is not None:
        own = torch.full_like(sd, prior.field.sd)
        covariance = alike(_abscissa(scene, vector), prior.field.length, own, common=float(sd[0]))
    elif prior.length is not None:
        covariance = alike(_abscissa(scene, vector), prior.length, sd)
    else:
        covariance = torch.diag(sd.square())
    joint = JointPrior(
        mean=torch.tensor([c.mean for c in vector], dtype=torch.float64),
        covariance=covariance,
        logarithmic=vector[0].logarithmic,
        rising={"increasing": 1, "decreasing": -1, None: 0}[prior.monotone],
    )
    widths = covariance.diagonal().sqrt().tolist()
    return [dataclasses.replace(c, joint=joint, sd=width) for c, width in zip(vector, widths, strict=True)]


def _abscissa(scene: Scene, vector: Sequence[Coordinate]) -> torch.Tensor:
    """What the entries stand over: the knots of their table, else their number."""
    place, run, key = vector[0].targets[0]
    parts = parts_of(key)
    if place == "run" and len(parts) > 2:
        table = value_at(scene.runs[run], joined(parts[:-2]))
        over = getattr(table, "abscissa", None)
        if over is not None:
            knots = getattr(table, over)
            return torch.tensor([knots[int(parts_of(c.targets[0][2])[-1])] for c in vector], dtype=torch.float64)
    return torch.arange(len(vector), dtype=torch.float64)


def _number(scene: Scene, instruments: Mapping[str, AbstractInstrument], target: Target) -> Number:
    place, name, key = target
    return numbers(scene.runs[name] if place == "run" else instruments[name])[key]


def _entry(value: object, entry: int, size: int, name: str) -> float | None:
    if isinstance(value, tuple):
        if len(value) != size:
            raise SceneError(f"unknowns.{name}.initial: {len(value)} numbers for {size} entries")
        return float(value[entry])
    return None if value is None else float(value)  # type: ignore[arg-type]


def _bounds(unknown: Unknown, number: Number) -> tuple[float, float]:
    bounds = number.range
    lower, upper = max(bounds.gt, bounds.ge), min(bounds.lt, bounds.le)
    if unknown.prior is not None and unknown.prior.uniform is not None:
        lower, upper = max(lower, unknown.prior.uniform[0]), min(upper, unknown.prior.uniform[1])
    lower = lower if unknown.lower is None else max(lower, unknown.lower)
    return lower, upper if unknown.upper is None else min(upper, unknown.upper)


def _prior(prior: Prior | None, start: float, entry: int, size: int, name: str) -> tuple[float, float, bool]:
    """Mean, standard deviation, and whether they are of the logarithm; NaN without a prior."""
    if prior is None or prior.uniform is not None:
        return math.nan, math.nan, False
    if prior.total_variation is not None:
        raise SceneError(f"unknowns.{name}.prior.total_variation: it is for fields, and this is a number")
    if prior.uncertainty_factor is not None:
        return _log(start, name), math.log(factor_of(prior.uncertainty_factor, name)) / prior.level, True
    logarithmic = prior.lognormal is not None
    widths = prior.lognormal if logarithmic else prior.normal
    center: float | None = None
    if isinstance(widths, tuple):
        if size == 1:
            if len(widths) != 2:
                raise SceneError(f"unknowns.{name}.prior: expected a width, or [centre, width], got {list(widths)}")
            center, width = widths
        elif len(widths) != size:
            raise SceneError(f"unknowns.{name}.prior: {len(widths)} widths for {size} entries")
        else:
            width = widths[entry]
    else:
        assert widths is not None
        width = widths
    center = start if center is None else center
    return (_log(center, name) if logarithmic else center), width, logarithmic


def _log(value: float, name: str) -> float:
    if not value > 0:
        raise SceneError(f"unknowns.{name}.prior: a lognormal prior needs a centre above 0, got {value:g}")
    return math.log(value)
