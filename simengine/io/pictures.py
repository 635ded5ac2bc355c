"""Pictures from files: integers are shares of full scale as a screen shows them (sRGB), floats linear light."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of one size.

    Attributes:
        values: (f, h, w, c) float64; integers of a file as shares of full scale.
        hashes: Name of each file -> its SHA-256.
    """

    values: NDArray[np.float64]
    hashes: dict[str, str]


def read_picture(path: str | Path) -> NDArray[np.float64]:
    """Linear light of one picture, (h, w, c).

    Raises:
        ValueError: The file is missing, damaged, or no picture.
    """
    shares = read_stills([Path(path)]).values[0]
    return np.where(shares <= 0.04045, shares / 12.92, ((np.maximum(shares, 0.04045) + 0.055) / 1.055) ** 2.4)


def read_stills(files: Sequence[Path]) -> Pictures:
    """Stills of one size, as stored.

    Raises:
        ValueError: As of `read_picture`; or the pictures differ in size.
    """
    from PIL import Image, UnidentifiedImageError

    values: list[NDArray[np.float64]] = []
    for file in files:
        try:
            with Image.open(file) as image:
                plain = image.convert("RGB") if image.mode in ("P", "CMYK") else image
                array = np.asarray(plain)
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"{file.name}: not a readable picture ({error})") from None
        array = array[..., None] if array.ndim == 2 else array[..., :3]
        most = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1.0
        values.append(array / most)
        if values[-1].shape != values[0].shape:
            raise ValueError(f"{file.name}: another size than {files[0].name}; pictures of a series have one size")
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return Pictures(np.stack(values), hashes)
