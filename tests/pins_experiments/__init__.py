"""What must not change in ``experiments`` while its code does: golden files, and the tests that compare with them.

Every test file begins with the few functions that call the code (adapters); the rest knows names of cases and
plain values alone. How the golden files are written anew: see ``golden.py``.
"""
