"""Flames."""

from key_cases.judge import Case, build

CASES: dict[str, Case] = {
    "simplified flame": Case(
        {"kind": "flame", "flame": {"type": "free_simple"}},
        (build,),
        below=("flame",),
    ),
    **{
        f"flame {name}": Case(
            {
                "kind": "flame",
                "gas": {"mechanism": "asset:methane_1step.yaml"},
                "flame": {"type": name, **more},
            },
            (build,),
            below=("flame",),
        )
        for name, more in {
            "free": {},
            "counterflow": {"opposed": {"N2": 1.0, "O2": 0.1}},
            "burner": {},
            "diffusion": {"dilution": {"N2": 1.0}},
        }.items()
    },
}
