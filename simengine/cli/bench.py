"""`simengine bench`."""

import runpy
from pathlib import Path

from simengine.cli.common import AsJson, emit
from simengine.scene.strict import nearest


def bench(area: str = "all", *, as_json: AsJson = False) -> int:
    """Run benchmarks side by side with a reference; needs a source checkout.

    Args:
        area: A file of benchmarks/ without its suffix, or all.
    """
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    known = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if not known:
        raise ValueError("no benchmarks/ folder here: benchmarks come with the source checkout, not with the wheel")
    if area != "all" and area not in known:
        raise ValueError(f"{area}: no such benchmark; {nearest(area, [*known, 'all'])}")
    for name, path in known.items():
        if area in ("all", name):
            rows = runpy.run_path(str(path))["main"]()
            emit({row.pop("name"): row for row in rows}, as_json=as_json, title=f"bench {name}")
    return 0
