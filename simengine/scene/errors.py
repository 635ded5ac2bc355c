"""What goes wrong with a scene, for everything in `scene/` and above."""


class SceneError(ValueError):
    """A scene cannot be read or built. The one-line message names file, line, key, value and remedy."""


class Refused(RuntimeError):
    """A world has no run with these numbers: a bad trial in a fit, an error at its start."""


def nothing_to_fit(kind: str) -> SceneError:
    """That a scene says neither what was measured nor what is sought."""
    return SceneError(f"a scene of kind {kind!r} without [observations] and [unknowns] has nothing to fit; add them")
