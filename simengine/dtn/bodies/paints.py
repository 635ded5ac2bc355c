"""Linear albedos of common paints of vehicles."""

NATURAL_PAINTS: tuple[tuple[float, float, float], ...] = (  # white, silver, grey, black, red, blue, green
    (0.75, 0.75, 0.73),
    (0.45, 0.46, 0.47),
    (0.16, 0.16, 0.17),
    (0.02, 0.02, 0.02),
    (0.40, 0.03, 0.03),
    (0.03, 0.06, 0.25),
    (0.04, 0.12, 0.06),
)
