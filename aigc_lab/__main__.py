"""`python -m aigc_lab` is the same program as `aigc`."""

import sys

from aigc_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
