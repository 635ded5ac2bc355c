"""Fields as unknowns: the search, its priors, its report."""
