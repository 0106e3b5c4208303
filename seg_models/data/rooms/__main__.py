import sys

from seg_models.data.rooms.cli import main

sys.exit(main())
