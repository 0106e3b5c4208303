"""`python -m seg_models.runs`."""

import sys

from seg_models.runs.command import main

sys.exit(main())
