"""Looking inside trained networks; needs the ``inspect`` extra (matplotlib)."""
