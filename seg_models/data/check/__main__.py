"""`python -m seg_models.data.check`."""

from __future__ import annotations

import sys

from seg_models.data.check.command import main

if __name__ == "__main__":
    sys.exit(main())
