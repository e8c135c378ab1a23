"""Faults that the tests must see: each is put into a copy of the project, and the named test must turn red.

    python tests/mutants.py            all of them, some minutes
    python tests/mutants.py kappa DARE those whose description holds a word

The list is ``mutants.toml``. Not part of the test run; ``test_mutants_stand.py`` checks that every fault can
still be put in.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """``before`` stands once in ``file``; with ``after`` in its place ``test`` (a pytest node) must fail."""

    fault: str
    file: str
    before: str
    after: str
    test: str

    def text(self, root: Path = ROOT) -> str:
        """The file with the fault in it. Raises ValueError if the line is not there, or more than once."""
        found = (root / self.file).read_text()
        if found.count(self.before) != 1:
            raise ValueError(
                f"{self.fault}: {self.file} holds {self.before!r} {found.count(self.before)} times"
            )
        return found.replace(self.before, self.after)


MUTANTS = tuple(Mutant(**row) for row in tomllib.loads((ROOT / "tests/mutants.toml").read_text())["mutant"])


def copied(place: Path) -> None:
    """The packages, the tests and what they read, without caches."""
    skip = shutil.ignore_patterns("__pycache__", ".*_cache", "*.pdf", "*.png")
    for folder in ("theory", "sim", "tests", "figures", "notebooks"):
        shutil.copytree(ROOT / folder, place / folder, ignore=skip)
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, place / file)


def killed(mutant: Mutant) -> bool:
    """Whether the named test fails in a copy with the fault in it (and not for want of being found)."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        copied(place)
        (place / mutant.file).write_text(mutant.text())
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
        paths = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{mutant.fault}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}")
        return done.returncode == 1


def main(words: list[str]) -> int:
    """Try every mutant that holds a word; the exit code is the number that survived."""
    chosen = [m for m in MUTANTS if not words or any(word in m.fault for word in words)]
    survived = 0
    for mutant in chosen:
        dead = killed(mutant)
        survived += not dead
        print(f"{'killed  ' if dead else 'SURVIVED'} {mutant.fault} ({mutant.test})", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} killed")
    return survived


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
