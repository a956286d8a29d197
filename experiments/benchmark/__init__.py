"""What things cost, each against its alternatives in the same run."""
