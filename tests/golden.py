"""Golden files: what the code gave once, in ``golden/`` beside the tests that compare with it.

``python -m tests.golden`` writes all of them anew from the code as it is, or with pytest's arguments (files,
``-k words``) some of them; the difference is for a person to read. Otherwise a file or a case that is not there is
a failure. Digests of bits are kept by machine and versions (:func:`fingerprint`), of which rewriting adds its own:
to compare bits where there are none yet, rewrite with the code from before, and compare with the code from after.
"""

import functools
import hashlib
import json
import math
import os
import pathlib
import platform
import sys

import jax
import jaxlib
import numpy as np
import pytest

_REWRITE = "REWRITE_GOLDEN"
_HINT = "python -m tests.golden adds it."


class Golden:
    """The cases of one topic, in ``golden/<name>.json`` beside ``test``, the test's ``__file__``.

    Floats are kept to seven digits and compared within ``rtol`` and ``atol``; ``loose`` gives other absolute
    tolerances by the name of a field, for it and all below it. ``exact`` keeps and compares all their digits. The
    file has a line for every case, with ``entries`` one for every entry of a case.
    """

    def __init__(self, test, name, *, rtol=1e-5, atol=1e-5, loose=None, exact=False, entries=False):
        self.path = pathlib.Path(test).parent / "golden" / f"{name}.json"
        self.tolerance, self.loose = (0, 0) if exact else (rtol, atol), loose or {}
        self._plain = functools.partial(plain, digits=None if exact else 7)
        self._lines = _entries if entries else _cases

    def check(self, case, found):
        """Compares what a case gave with what it gave once."""
        found = self._plain(found)
        differing = list(self._differences(found, self.wanted(case, found), (case,)))
        assert not differing, "\n".join(differing[:20])

    def wanted(self, case, found):
        """What a case gave once; ``found`` where the file is written anew."""
        if rewriting():
            self._write({**self._read(), case: self._plain(found)})
        kept = self._read()
        assert case in kept, f"{self.path.name} has no case {case!r}: {_HINT}"
        return kept[case]

    def knows(self, case):
        """Whether the file has a case; where it is being written, it will."""
        return rewriting() or case in self._read()

    def check_cases(self, cases):
        """Fails where the file has a case that nothing tests any more."""
        if rewriting():
            self._write({case: value for case, value in self._read().items() if case in set(cases)})
        assert set(self._read()) == set(cases)

    def check_bits(self, case, digest):
        """Compares a digest with that of this machine and these versions; skips if there is none."""
        if rewriting():
            self.wanted(case, self._read().get(case, {}) | {fingerprint(): digest})
            return
        kept = self.wanted(case, None)
        if fingerprint() not in kept:
            pytest.skip(f"no bits are known of this machine and these versions ({fingerprint()})")
        assert digest == kept[fingerprint()]

    def _read(self):
        if not self.path.exists():
            assert rewriting(), f"There is no {self.path.name}: {_HINT}"
            return {}
        return json.loads(self.path.read_text("utf-8"))

    def _write(self, cases):
        self.path.write_text(self._lines(cases), "utf-8")

    def _differences(self, found, kept, path):
        where = " / ".join(map(str, path))
        if isinstance(found, dict) and isinstance(kept, dict):
            if found.keys() != kept.keys():
                yield f"{where}: fields {sorted(found)}, were {sorted(kept)}"
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


def check_text(test, name, found):
    """Compares a text with ``golden/<name>`` beside ``test``, byte for byte."""
    path = pathlib.Path(test).parent / "golden" / name
    if rewriting():
        path.write_text(found, "utf-8")
    assert path.exists(), f"There is no {name}: {_HINT}"
    assert found == path.read_text("utf-8")


def rewriting():
    """Whether golden files are written anew."""
    return bool(os.environ.get(_REWRITE))


def plain(value, digits=None):
    """Anything as JSON holds it: arrays as lists, floats to so many digits, what is not finite as text."""
    if isinstance(value, dict):
        return {str(name): plain(inner, digits) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner, digits) for inner in value]
    if value is None or isinstance(value, (str, bool, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        finite = math.isfinite(value)
        return (float(f"{value:.{digits}g}") if digits else float(value)) if finite else str(float(value))
    return plain(np.asarray(value).tolist(), digits)


def digits(value, count=6):
    """A float to so many significant digits."""
    return float(f"{value:.{count}g}")


def leaves(tree):
    """Leaves by their path, such as ``conv_0/kernel``."""
    return {
        "/".join(str(getattr(key, "key", key)) for key in path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def message(call):
    """The error that a call raises, as ``"ValueError: text"``."""
    with pytest.raises(Exception) as caught:
        call()
    return f"{type(caught.value).__name__}: {caught.value}"


@functools.cache
def fingerprint():
    """What decides the order of sums: processor, cores, XLA's flags, versions."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    about = sorted({line for line in lines if line.startswith(("flags", "model name", "Features"))})
    about += [platform.machine(), str(os.cpu_count()), os.environ.get("XLA_FLAGS", "")]
    about += [jaxlib.__version__, str(jax.device_count()), jax.default_backend()]
    return f"jax {jax.__version__}, {hashlib.sha256(chr(10).join(about).encode()).hexdigest()[:8]}"


def _cases(content):
    lines = [f"{json.dumps(case)}: {_text(value)}" for case, value in sorted(content.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _entries(content):
    parts = []
    for case, value in content.items():
        text = _text(value)
        if isinstance(value, dict) and value:
            inside = ",\n".join(f"  {json.dumps(name)}: {_text(item)}" for name, item in value.items())
            text = f"{{\n{inside}\n }}"
        elif isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {_text(item)}" for item in value) + "\n ]"
        parts.append(f" {json.dumps(case)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _text(value):
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    os.environ[_REWRITE] = "1"
    tests = pathlib.Path(__file__).parent
    arguments = sys.argv[1:] or sorted({str(folder.parent) for folder in tests.rglob("golden")})
    sys.exit(pytest.main(["-n", "0", "-m", "slow or not slow", "-q", *arguments]))
