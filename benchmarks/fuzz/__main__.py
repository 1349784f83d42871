"""`python -m benchmarks.fuzz`: the attackers' processes import what they run, and cannot import this one."""

import sys

from benchmarks.fuzz.siege import main

if __name__ == "__main__":
    sys.exit(main())
