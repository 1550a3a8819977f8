"""``python -m diffprob``."""

import sys

from diffprob.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
