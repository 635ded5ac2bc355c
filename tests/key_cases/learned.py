"""Networks."""

from key_cases.judge import Case

CASES: dict[str, Case] = {}
