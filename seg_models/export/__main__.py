"""`python -m seg_models.export`."""

import sys

from seg_models.export.command import main

if __name__ == "__main__":
    sys.exit(main())
