"""`python -m seg_models.analyse attention | features | embeddings | regions | pictures | compare | speed`; see `command`."""

import sys

from seg_models.analyse.command import main

if __name__ == "__main__":
    sys.exit(main())
