"""`python -m seg_models.analyse`: the papers' figures for a checkpoint, a subcommand each; see `command`."""

import sys

from seg_models.analyse.command import main

if __name__ == "__main__":
    sys.exit(main())
