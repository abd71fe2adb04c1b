"""Many runs: grids, trials, sweeps and the paper's experiments."""
