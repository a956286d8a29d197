"""Many runs: the paper's tables and figures, out of however many are finished."""
