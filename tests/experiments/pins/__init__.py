"""What must not change in ``experiments`` while its code does: golden files, and the tests that compare with them.

Every test file begins with the few functions that call the code (adapters); the rest knows names of cases and
plain values alone. ``python -m tests.golden`` writes the golden files anew.
"""
