"""Experiments with lgnn_jax: the paper's networks, with and without locality guidance, on real images.

Commands are ``reproduce`` (tables and figures), ``train`` (one run), ``inspect`` (a look inside finished ones)
and ``benchmark``; ``cli`` is how they start and fail. What they are made of, where each uses those after it:
``study`` (tables and figures of many runs), ``inspect``, ``sweep`` (many runs made), ``train`` and ``run`` (one),
``options`` (of every command), ``config`` (what decides a run), ``methods``, ``recipes``, ``nets``, ``data``,
``errors``, ``markdown``, and ``machine`` (files, processes, hosts).
"""
