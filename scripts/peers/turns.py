"""Measure several programs in turns, so that a busy machine hits all alike, and print the median of each.

    python scripts/peers/turns.py --rounds 3 "ours: PYTHON loader.py …" "theirs: OTHER_PYTHON torchio_loader.py …"

A program prepares what it measures, prints ``ready``, and then answers each line that it reads with one number: see
``side.py``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess

import psutil

BUSY = 15  # percent of the processor, by others


class Side:
    """A program that answers each line with a number.

    Args:
        name_and_command: ``"name: command"``.
    """

    def __init__(self, name_and_command: str) -> None:
        self.name, _, command = name_and_command.partition(": ")
        if not command:
            raise SystemExit(f"expected 'name: command', got {name_and_command!r}")
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(shlex.split(command), stdin=pipe, stdout=pipe, text=True)  # noqa: S603 (the user's own command)
        except (OSError, ValueError) as error:
            raise SystemExit(f"{self.name}: cannot be started: {error}") from error
        self.numbers: list[float] = []
        self.busy = 0
        self._read("ready")

    def measure(self, tries: int) -> None:
        """Ask for one number more; again where others were at work before or after, ``tries`` times at most."""
        for _ in range(tries):
            before = psutil.cpu_percent(0.5)
            number = self._ask()
            if max(before, psutil.cpu_percent(0.5)) < BUSY:
                self.numbers.append(number)
                return
        self.busy += bool(tries)
        self.numbers.append(number if tries else self._ask())

    def end(self) -> None:
        """Let the program end by itself."""
        self.process.stdin.close()
        self.process.wait()

    def _ask(self) -> float:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self._read("")
        try:
            number = float(line)
        except ValueError:
            number = 0.0
        if number <= 0:
            raise SystemExit(f"{self.name}: expected a number above 0, got {line!r}")
        return number

    def _read(self, wanted: str) -> str:
        line = self.process.stdout.readline().strip()
        if not line or (wanted and line != wanted):
            raise SystemExit(
                f"{self.name}: expected {wanted or 'a number'!r}, got {line!r}; see what it printed"
            )
        return line


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", nargs="+", help="'name: command'")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tries", type=int, default=3, help="to find the machine idle; 0 does not look")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.tries < 0:
        parser.error("expected --rounds from 1 and --tries from 0")
    sides = [Side(text) for text in arguments.sides]
    print(f"load before: {os.getloadavg()[0]:.2f}")
    for _ in range(arguments.rounds):
        for side in sides:
            side.measure(arguments.tries)
    for side in sides:
        side.end()
        ratios = [number / first for number, first in zip(side.numbers, sides[0].numbers, strict=True)]
        rounds = " ".join(f"{number:.4g}" for number in side.numbers)
        middle, ratio = statistics.median(side.numbers), statistics.median(ratios)
        print(f"{side.name}: {middle:.4g} ({rounds}), {ratio:.3g} of {sides[0].name}; busy {side.busy} times")


if __name__ == "__main__":
    main()
