"""Experiments with lgnn_jax: the paper's networks, with and without locality guidance, on real images.

Commands are ``reproduce`` (tables and figures), ``train`` (one run), ``inspect`` (a look inside finished ones),
``benchmark`` and ``soak``. What they are made of, where each uses those after it: ``campaign`` (many runs), ``run``
(one), ``cli`` (options and errors), ``config`` (what decides a run), ``nets``, ``data``, and ``machine`` (files,
processes, hosts).
"""
