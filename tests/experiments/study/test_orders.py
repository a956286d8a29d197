"""The table of how much order rows of runs show."""

import copy

from experiments.study import orders

LAYERS = ["conv_0/kernel", "conv_1/kernel", "conv_2/kernel"]
COSINE, CORRELATION = "weights: neighbour cosine", "responses: neighbour correlation"
MORAN = "responses: Moran's I of selectivity"


def block(*values, high=0.1):
    column = {"value": list(values), "null_high": [high] * len(values)}
    return {
        "layers": LAYERS,
        "metrics": {name: copy.deepcopy(column) for name in (COSINE, CORRELATION, MORAN)},
    }


def summary(shift=0.0, high=0.1):
    fitted = {layer: {"value": 0.3, "null_high": 0.25} for layer in LAYERS}
    return {
        "topography": block(0.9, 0.0 + shift, 0.2 + shift, high=high),
        "arranged": {
            "weights": block(0.9, 0.2 + shift, 0.4 + shift, high=high),
            "responses": block(0.9, 0.5, 0.6, high=high),
            "fitted": fitted,
        },
    }


def test_the_first_layer_is_left_out_and_chance_is_exceeded_in_every_run():
    found = orders.orders("vgg11", [summary(), summary(0.2)])
    assert list(found) == ["as trained", "weights", "responses"]
    native = found["as trained"][COSINE]
    assert native["layers"] == LAYERS[1:] and not native["in_sample"]
    assert [round(value, 6) for value in native["values"]] == [0.1, 0.3]
    assert native["above"] == [False, True]  # Of the first run, 0.0 is not above 0.1.
    assert found["responses"][CORRELATION]["above"] == [True, True]


def test_what_an_order_was_fitted_on_stands_beside_arrangements_of_shuffled_weights():
    found = orders.orders("vgg11", [summary()])["weights"]
    assert found[COSINE] == {
        "layers": LAYERS[1:],
        "values": [0.2, 0.4],
        "above": [False, True],
        "in_sample": True,
    }
    assert found[CORRELATION]["above"] == [True, True] and not found[CORRELATION]["in_sample"]


def test_the_table_has_a_line_an_order_and_none_for_runs_of_old():
    entries = [
        {"row": "baseline", "order": orders.orders("vgg11", [summary()])},
        {"row": "old", "order": {}},
    ]
    text = orders.lines(entries)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text if line.startswith("| baseline")
    ]
    assert [row[1] for row in rows] == [
        "as trained",
        "arranged by weights",
        "arranged by responses",
    ]
    assert rows[1][2:4] == ["0.20 to 0.40 (1 of 2)*", "0.20 to 0.40 (2 of 2)"]
    assert not any("old" in line for line in text[2:])
    assert "Moran's I of selectivity" in text[2]
    assert orders.lines(entries[1:]) == []
    assert orders.orders("vgg11", [summary(), {"topography": {}}]) == orders.orders("vgg11", []) == {}


def test_of_two_kinds_of_classes_the_larger_ones_are_shown_and_undefined_layers_left_out():
    made = summary()
    for part in (made["topography"], made["arranged"]["weights"], made["arranged"]["responses"]):
        part["metrics"]["responses: Moran's I of superclass selectivity"] = part["metrics"][MORAN]
        part["metrics"][CORRELATION]["value"][1] = None
    found = orders.orders("vgg11", [made])["responses"]
    assert "responses: Moran's I of superclass selectivity" in found and MORAN not in found
    assert found[CORRELATION]["layers"] == LAYERS[2:]
