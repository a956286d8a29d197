"""Many runs: tables and figures out of however many are finished."""
