"""How modules of kernels are compiled for CPUs."""

import warp as wp


def cpu_module(name):
    """The name of a module whose CPU code fuses multiplies and adds and grows trees of vector instructions to depth 6.

    The rest are Warp's own flags. It takes a third off the instructions of the transfers and a sixth off the time of
    the laws. The same flags for all modules: Warp's headers are compiled once for each set of them, for 3 s.
    """
    wp.get_module(name).options["cpu_compiler_flags"] = (
        "-march=native -mllvm=-inline-threshold=9000 -mllvm=-inline-cold-callsite-threshold=3000"
        " -mllvm=-slp-recursion-max-depth=6 -ffp-contract=fast"
    )
    return name
