"""Nearly right HTTP/1.1, by chance and without end: what proxy.http1 accepts, llhttp and h11 read the same or refuse.

    python -m tests.fuzz.http1_fuzz 1000000 [SEED]

The seed is printed; each run has a number of its own, so that one can be repeated alone.
"""

import random
import sys
import time

from tests.http1.mutants import by_chance, stream
from tests.http1.others import llhttp, with_h11
from tests.http1.reading import read
from tests.http1.test_differential import check


def main() -> None:
    runs = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    print(f"seed {seed}")
    accepted = {"here": 0, "llhttp": 0, "h11": 0}
    for run in range(runs):
        chance = random.Random(f"{seed} {run}")
        answers = run % 2 == 1
        raw = stream(by_chance(chance), answers=answers)
        try:
            check(raw, chance.randint(1, 60), answers=answers)
        except AssertionError as error:
            sys.exit(f"seed {seed}, run {run}: {error}")
        for name, reader in (("here", read), ("llhttp", llhttp), ("h11", with_h11)):
            accepted[name] += reader([raw], answers=answers).refused is None
    shares = ", ".join(f"{name} {count / runs:.0%}" for name, count in accepted.items())
    print(f"{runs} streams, no difference; read to the end: {shares}")


if __name__ == "__main__":
    main()
