"""Explicit MLS-MPM with APIC and quadratic B-splines, differentiable end to end; docs/mpm.md is the page for users.

Planned surface (the names and shapes that other modules may rely on):

    Material(elasticity, plasticity)      simengine.materials; a pair of nn.Modules F -> tau [Pa] and F -> F
    MPMModel(*, num_grids, dt, materials, volume, mass, material_ids=None, length=1.0, gravity=(0, -9.8, 0),
             boundaries=(Walls(),), epsilon=1e-7)         nn.Module: what is constant in time
    MPMState(x, v, C, F, q)                               frozen dataclass: what varies; MPMState.at_rest(x, v=None)
    MPMSolver(model).step(state) -> state                 pure
    simengine.solve.rollout(solver, state, num_steps, *, save_every=1, adjoint=DirectAdjoint()) -> Trajectory
"""
