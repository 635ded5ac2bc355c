"""Learned materials on disk: one safetensors file with the tensors and what is needed to build the modules again."""

import json
from pathlib import Path

import torch

from simengine.materials.formula import FormulaEnergy
from simengine.materials.law import Material
from simengine.materials.neural import NeuralElasticity, NeuralPlasticity
from simengine.materials.neural_energy import EnergyNetwork
from simengine.materials.neural_yield import YieldNetwork
from simengine.materials.plasticity import Identity
from simengine.materials.spline_energy import SplineEnergy

MAX_BYTES = 64 << 20
_CLASSES = {
    "NeuralElasticity": NeuralElasticity,
    "NeuralPlasticity": NeuralPlasticity,
    "EnergyNetwork": EnergyNetwork,
    "FormulaEnergy": FormulaEnergy,
    "SplineEnergy": SplineEnergy,
    "YieldNetwork": YieldNetwork,
    "Identity": Identity,
}


def save_material(path: Path, material: Material) -> Path:
    """Write a learned material as safetensors.

    Raises:
        TypeError: A law is not one of the learned ones (or no flow at all).
    """
    from safetensors.torch import save_file

    made: dict[str, dict[str, object]] = {}
    for part in ("elasticity", "plasticity"):
        law = getattr(material, part)
        name = type(law).__name__
        if name not in _CLASSES:
            raise TypeError(f"{part}: a {name} is not a learned law; expected one of {', '.join(_CLASSES)}")
        options: dict[str, object] = {}
        if isinstance(law, EnergyNetwork):
            options = {"width": len(law.offsets), "convexity": law.convexity}
        elif isinstance(law, FormulaEnergy):
            options = {"terms": list(law.terms)}
        elif isinstance(law, YieldNetwork):
            options = {"width": len(law.weights)}
        elif isinstance(law, NeuralElasticity | NeuralPlasticity):
            options = {"width": len(law.first.weight)}
        made[part] = {"class": name, "options": options}
    tensors = {name: value.detach().cpu().contiguous() for name, value in material.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"material": json.dumps(made)})
    return path


def load_material(path: Path) -> Material:
    """Read what `save_material` wrote.

    Raises:
        ValueError: The file is missing, too large, damaged, or holds no learned material.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; weights of a law have at most {MAX_BYTES}")
    try:
        with safe_open(path, framework="pt") as file:
            made = json.loads((file.metadata() or {})["material"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        laws = {part: _CLASSES[made[part]["class"]](**made[part]["options"]) for part in ("elasticity", "plasticity")}
        material = Material(laws["elasticity"], laws["plasticity"])
        material.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: holds no learned material ({' '.join(str(error).split())[:200]})") from error
    for name, value in material.state_dict().items():
        if not bool(torch.isfinite(value).all()) and not name.endswith(".cap"):
            raise ValueError(f"{path}: {name} is not finite")
    return material
