"""What a part of a search sees and moves."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage of a fit sees and moves.

    Attributes:
        fraction: Of each observation's time that is compared.
        free: Numbers of the coordinates that move.
        only_world: Whether this stage holds the instruments' numbers.
        level: Halvings of the resolution of pictures.
        coarse: Times by which the worlds' resolution is coarser than the scene's.
    """

    fraction: float
    free: tuple[int, ...]
    only_world: bool
    level: int = 0
    coarse: float = 1.0
