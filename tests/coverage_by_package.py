"""Print what the tests reach, by package, from the report of coverage as JSON: `make test-all` calls it."""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any


def by_package(files: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Package, two levels deep -> lines and branches reached, and all of them.

    Args:
        files: The table `files` of the report.
    """
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, told in files.items():
        package = ".".join(PurePosixPath(name.replace("\\", "/")).parts[:-1][:3])
        summary = told["summary"]
        found[package][0] += summary["covered_lines"] + summary.get("covered_branches", 0)
        found[package][1] += summary["num_statements"] + summary.get("num_branches", 0)
    return {package: (reached, of) for package, (reached, of) in sorted(found.items())}


def main(path: str) -> None:
    """Print the table."""
    packages = by_package(json.loads(Path(path).read_text(encoding="utf-8"))["files"])
    for package, (reached, of) in packages.items():
        print(f"{package:40} {100 * reached / max(of, 1):5.1f} %  of {of}")
    reached, of = (sum(part) for part in zip(*packages.values(), strict=True))
    print(f"{'all':40} {100 * reached / max(of, 1):5.1f} %  of {of}")


if __name__ == "__main__":
    main(sys.argv[1])
