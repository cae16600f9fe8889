"""``python -m zeroshot.cli`` is the command ``zeroshot``."""

import sys

from zeroshot.cli import main

if __name__ == "__main__":
    sys.exit(main())
