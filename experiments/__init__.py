"""Experiments with lgnn_jax: the paper's networks, with and without locality guidance, on real images.

Commands are ``reproduce`` (tables and figures), ``train`` (one run), ``inspect`` (a look inside finished ones),
``benchmark`` and ``soak``; ``cli`` is how they start and fail. What they are made of, where each uses those
after it: ``campaign`` (many runs), ``run`` (one), ``options`` (of every command), ``config`` (what decides a run),
``methods``, ``recipes``, ``nets``, ``data``, ``errors``, and ``machine`` (files, processes, hosts).
"""
