"""Which law does a rubber follow? Three tests of 1944 weigh neo-Hooke against three terms of Ogden by evidence."""

from collections.abc import Sequence

from matplotlib import pyplot as plt

import simengine as se
from simengine.fit.certainty.evidence import log_evidence
from simengine.fit.inference import LeastSquaresFit

NOISE = {"observations.*.sigma": se.Unknown(prior=se.Prior(lognormal=0.7))}
MU = {"material.mu": se.Unknown(prior=se.Prior(lognormal=1.5))}
ALPHA = {"material.alpha": se.Unknown(prior=se.Prior(normal=3.0))}


def evidence(changes: Sequence[str], unknowns: dict[str, se.Unknown]) -> float:
    """The log evidence of a law by Laplace's approximation about its best fit."""
    problem = se.Problem(se.load_scene("rubber_treloar", changes), unknowns=unknowns)
    fit = LeastSquaresFit(problem)
    while not fit.converged:
        fit.step()
    found, why = log_evidence(problem, fit.z)
    assert found is not None, why
    return found


def main() -> dict[str, float]:
    neo_hooke = evidence(["material.mu=[4e5]", "material.alpha=[2.0]"], MU | NOISE)
    ogden = evidence([], MU | ALPHA | NOISE)
    plt.bar(["neo-Hooke", "Ogden, three terms"], [0.0, ogden - neo_hooke])
    plt.gca().set(ylabel="log evidence, above neo-Hooke's", title="Rubber, 1944: which law?")
    assert ogden > neo_hooke + 10  # neo-Hooke knows nothing of the upturn beyond a stretch of 5
    return {"neo-Hooke": neo_hooke, "Ogden, three terms": ogden}


if __name__ == "__main__":
    print(main())
    plt.savefig("weigh_two_laws.png")
