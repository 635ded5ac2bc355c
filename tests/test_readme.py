"""Links of the pages lead somewhere; what the pages say is run in test_pages.py."""

import re
from pathlib import Path


def test_links_lead_somewhere() -> None:
    root = Path(__file__).resolve().parents[1]
    for page in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
