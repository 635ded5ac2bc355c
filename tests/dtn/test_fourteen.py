"""The table of wrong wrappings in docs/results/dtn.md: each line stands in the source, each test is there."""

import re
from pathlib import Path

import simengine

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs/results/dtn.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| `(.*)::(.*)` \|$", PAGE, re.M)


def test_each_line_of_the_table_is_said_and_tested() -> None:
    folder = Path(simengine.__file__).parent / "dtn"
    source = "".join(file.read_text() for file in folder.rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # strings that go on in the next line
    assert [int(number) for number, *_ in ROWS] == list(range(1, 15))
    for number, _, said, file, name in ROWS:
        tests = (HERE.parents[1] / file).read_text()
        assert f"def {name}(" in tests, name
        for line in re.findall(r'"([^"]+)"', said):
            assert line in source, (number, line)
            words = re.sub(r"\\(?=[(){}\[\]+.])", "", tests)  # as patterns have them
            assert line in words, (number, line)
