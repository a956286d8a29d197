"""Values, messages and signatures of the library as they were: a change of one is seen, and made on purpose.

Golden values are kept by plain names of cases in ``golden/*.json``. ``python -m tests.golden`` writes them
anew; the difference is for a person to read. Calls into the library are in the few functions on top of each file.
"""
