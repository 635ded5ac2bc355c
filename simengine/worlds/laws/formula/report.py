"""What the reading of a law leaves behind: the formula as numbers with bars, as a material, and in the report."""

from typing import TYPE_CHECKING, Any

from simengine.materials import Material
from simengine.materials.weights import save_material
from simengine.view.report import Block, ReportTable
from simengine.worlds.laws.formula.read_out import Formula

if TYPE_CHECKING:
    from simengine.io.run_directory import RunDirectory

NOTE = (
    "tr D^2 and tr D^3 are of the deviator D of the Hencky strain, I1, I2 and the stretches l without their change of "
    "volume, J the volume over that at rest. Bars hold what the rounding of the positions and the other numbers leave; "
    "they know nothing of a term that the library lacks."
)


def tell(formula: Formula, out: "RunDirectory") -> tuple[dict[str, Any], list[Block]]:
    """Write formula.safetensors, a material for any scene, and formula.json; return a summary and the report's part."""
    file = out.claim("formula.safetensors")
    save_material(file, Material(formula.energy, formula.material().plasticity))
    rows = formula.table()
    summary: dict[str, Any] = {
        "formula": formula.words(),
        "numbers": {row["name"]: {key: row[key] for key in ("value", "std", "unit")} for row in rows},
        "velocity_missed": formula.missed,
        "velocity_missed_by_learned": formula.learned_missed,
    }
    out.write("formula.json", {**summary, "others": [list(other) for other in formula.others]})
    table = [[row["name"], f"{row['value']:.6g}", f"{row['std']:.2g}", row["unit"]] for row in rows]
    others = [[text, f"{missed:.3g}"] for text, missed in formula.others]
    return summary, [
        formula.words(),
        ReportTable(["number", "value", "standard deviation", "unit"], table),
        ReportTable(["energy of so many terms", "velocity missed, mean square [m^2/s^2]"], others),
        NOTE,
    ]
