"""Files of plans: what they say, and what is refused."""

import pathlib

import click
import pytest

from experiments.options import Options
from experiments.study import plan

SCREENING = pathlib.Path(plan.__file__).parents[1] / "plans" / "screening.toml"
ROW = '[[rows]]\nname = "a"\nvariant = "constant"\n'


def options(data=None, **overrides):
    return Options(data, None, False, pathlib.Path("runs"), 60.0, overrides)


def read(text, tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(text)
    return plan.read(file)


def checked(text, tmp_path, *, shorten=None, seeds=None, data=None, **overrides):
    made, given = read(text, tmp_path).given(options(data, **overrides), shorten, seeds)
    made.check(given)
    return made, given


def test_the_command_line_comes_before_the_plan(tmp_path):
    text = f'data = "digits"\nwidth = 0.25\nlr = 1\nshorten = 0.5\nseeds = [3, 1]\n{ROW}{ROW}seeds = [7]'.replace(
        '"a"', '"b"', 1
    )
    made, given = checked(text, tmp_path, width=None, net=None)
    assert given.overrides == {"net": "vgg11", "width": 0.25, "lr": 1.0} and given.data == "digits"
    assert [made.seeds_of(row) for row in made.rows] == [(3, 1), (7,)] and made.shorten == 0.5
    made, given = checked(text, tmp_path, width=0.5, epochs=2, seeds=2, data="npy:there")
    assert given.overrides == {"net": "vgg11", "width": 0.5, "lr": 1.0, "epochs": 2}
    assert made.shorten is None and given.data == "npy:there"
    assert [made.seeds_of(row) for row in made.rows] == [(0, 1), (7,)]
    made, given = checked(f"epochs = 5\n{ROW}", tmp_path, shorten=0.1)
    assert made.shorten == 0.1 and "epochs" not in given.overrides and given.data == "digits"


def test_numbers_are_those_of_the_command_line(tmp_path):
    """Names of runs are hashes, in which 1 and 1.0 differ."""
    (row,) = read(f"{ROW}sigma = 1\nwindow = 5", tmp_path).rows
    assert repr(dict(row.settings)) == "{'sigma': 1.0, 'window': 5}"


def test_the_screening_names_rows_that_can_be_run():
    made, given = plan.read(SCREENING).given(options(), None, None)
    made.check(given)
    assert made.rows[0].variant == "baseline" and given.overrides["split"] == "development"
    assert (given.overrides["width"], made.shorten, made.seeds) == (0.25, 0.08, (0,))


@pytest.mark.parametrize(
    "text, words",
    [
        ("rows = [", "is no TOML: Invalid value (at end of document)"),
        ("title = 3\n" + ROW, "title must be a text, got 3"),
        ('title = "None"', "it has no rows; give one or more, each under [[rows]]"),
        ("colour = 3\n" + ROW, "unknown setting 'colour' of all rows. Known: batch, boundary"),
        ("sigma = 0.5\n" + ROW, "unknown setting 'sigma' of all rows"),
        ("width = true\n" + ROW, "width must be a number, got True"),
        ("lr = nan\n" + ROW, "lr must be a number, got nan"),
        ("epochs = 1.5\n" + ROW, "epochs must be an integer, got 1.5"),
        ('grids = "16=4xfour"\n' + ROW, "grids: '16=4xfour' is not of the form"),
        ("epochs = 3\nshorten = 0.5\n" + ROW, "epochs and shorten both set the length"),
        ("shorten = 2\n" + ROW, "shorten must be a factor above 0 and at most 1, got 2"),
        ("seeds = 3\n" + ROW, "seeds must be different integers from 0, such as [0, 1, 2], got 3"),
        (ROW + "seeds = [1, 1]", "row 'a': seeds must be different integers from 0"),
        ('[[rows]]\nname = "a"', "row 1 has no variant; every row has a name and a variant"),
        (ROW.replace("constant", "both"), "row 'a': Unknown variant 'both'. Known: baseline"),
        (ROW + "tau = 1.0", "row 'a': unknown setting 'tau' of variant 'constant'. Known: scope"),
        (ROW + 'sigma = "wide"', "row 'a': sigma must be a number, got 'wide'"),
        (ROW + "sigma = 1.0", "row 'a': sigma 1 makes a window of 3 taps indefinite"),
        (ROW + "sigma = -0.5", "row 'a': sigma must be finite and at least 0"),
        (ROW + ROW, "two rows are called 'a'"),
        (ROW + ROW.replace('"a"', '"b"'), "rows 'a' and 'b' are the same run (seed 0). Leave one out"),
        ('net = "vgg12"\n' + ROW, "row 'a': Unknown net 'vgg12'"),
        ("width = 0.0\n" + ROW, "row 'a': width must be positive"),
        ('split = "half"\n' + ROW, "row 'a': Unknown split 'half'"),
    ],
)
def test_what_cannot_be_is_named(text, words, tmp_path):
    with pytest.raises(click.UsageError) as refused:
        checked(text, tmp_path)
    message = refused.value.format_message()
    assert words in message and "tiny" in message and "\n" not in message


def test_two_baselines_that_differ_in_what_decides_nothing_are_one_run(tmp_path):
    rows = ROW.replace("constant", "baseline")
    with pytest.raises(click.UsageError, match="the same run"):
        checked(f"{rows}sigma = 0.3\n{rows}sigma = 0.4".replace('"a"', '"b"', 1), tmp_path)


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "bytes.toml", tmp_path / "missing.toml", tmp_path):
        with pytest.raises(click.UsageError, match="cannot be read"):
            plan.read(path)
