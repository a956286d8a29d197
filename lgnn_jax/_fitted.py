"""TEMPORARY"""

import numpy as np
from lgnn_jax._arrange import arrange
from lgnn_jax import topography


def fitted_score(
    observations,
    grid,
    metric=topography.neighbour_cosine,
    *,
    of="responses",
    order=None,
    key,
    permutations=20,
):
    sim = topography.correlations if of == "responses" else (lambda x: topography.cosines(x))

    def one(x):
        s = np.asarray(sim(x))
        o = np.asarray(arrange(s, grid))
        return metric(s[o][:, o], grid).value

    d = np.random.default_rng(0)
    return topography.Score(
        one(observations), np.array([one(d.permuted(observations, axis=0)) for _ in range(permutations)])
    )
