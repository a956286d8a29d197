"""Golden files: one JSON a topic, one case a line.

``python -m tests.pins.golden`` rewrites them, or with pytest's arguments (files, ``-k words``) some of them.
"""

import json
import math
import os
import pathlib
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent / "golden"
_REWRITE = "PINS_REWRITE"


class Golden:
    """The cases of one topic.

    ``loose`` gives absolute tolerances by the name of a field, for it and all below it.
    """

    def __init__(self, name, *, rtol=1e-5, atol=1e-5, loose=None):
        self.path, self.tolerance, self.loose = FOLDER / f"{name}.json", (rtol, atol), loose or {}

    def check(self, case, found):
        """Compares what a case gave with what it gave once."""
        found = plain(found)
        if os.environ.get(_REWRITE):
            self._write({**self._read(), case: found})
        kept = self._read()
        assert case in kept, f"{self.path.name} has no case {case!r}: python -m tests.pins.golden adds it."
        differing = list(self._differences(found, kept[case], (case,)))
        assert not differing, "\n".join(differing[:20])

    def knows(self, case):
        """Whether the file has a case; where it is being written, it will."""
        return bool(os.environ.get(_REWRITE)) or case in self._read()

    def check_cases(self, cases):
        """Fails where the file has a case that nothing tests any more."""
        kept = self._read()
        if os.environ.get(_REWRITE):
            self._write({case: value for case, value in kept.items() if case in set(cases)})
            kept = self._read()
        assert set(kept) == set(cases)

    def _read(self):
        if not self.path.exists():
            assert os.environ.get(_REWRITE), (
                f"There is no {self.path.name}: python -m tests.pins.golden writes it."
            )
            return {}
        return json.loads(self.path.read_text("utf-8"))

    def _write(self, cases):
        lines = [
            f"{json.dumps(case)}: {json.dumps(cases[case], ensure_ascii=False)}" for case in sorted(cases)
        ]
        self.path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")

    def _differences(self, found, kept, path):
        where = " / ".join(map(str, path))
        if isinstance(found, dict) and isinstance(kept, dict):
            if list(found) != list(kept):
                yield f"{where}: fields {list(found)}, were {list(kept)}"
            for name in found.keys() & kept.keys():
                yield from self._differences(found[name], kept[name], (*path, name))
        elif isinstance(found, list) and isinstance(kept, list):
            if len(found) != len(kept):
                yield f"{where}: length {len(found)}, was {len(kept)}"
            for index, pair in enumerate(zip(found, kept, strict=False)):
                yield from self._differences(*pair, (*path, index))
        elif isinstance(found, float) and isinstance(kept, float):
            rtol, atol = self.tolerance
            atol = next((self.loose[name] for name in path[::-1] if name in self.loose), atol)
            if not math.isclose(found, kept, rel_tol=rtol, abs_tol=atol):
                yield f"{where}: {found!r}, was {kept!r}"
        elif type(found) is not type(kept) or found != kept:
            yield f"{where}: {found!r}, was {kept!r}"


def plain(value):
    """Anything as JSON holds it: arrays as lists, floats to seven digits, what is not finite as text."""
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, bool, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.7g}") if math.isfinite(value) else str(float(value))
    return plain(np.asarray(value).tolist())


def message(call):
    """The error that a call raises, as ``"ValueError: text"``."""
    with pytest.raises(Exception) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


if __name__ == "__main__":
    os.environ[_REWRITE] = "1"
    arguments = sys.argv[1:] or [str(FOLDER.parent)]
    sys.exit(pytest.main(["-n", "0", "-m", "slow or not slow", "-q", *arguments]))
