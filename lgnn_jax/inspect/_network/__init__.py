"""Networks to look at: one file an adapter, each with a function that gives a :class:`Network`."""
