"""``python -m zeroshot`` is the command ``zeroshot``, whose script calls `main`."""

import sys


def main() -> int:
    """Run the command line and return its exit code; Ctrl+C may come while it is imported."""
    try:
        from zeroshot.cli import main as run

        return run()
    except KeyboardInterrupt:
        return 130  # INTERRUPTED of zeroshot.cli.output, which may not be there yet


if __name__ == "__main__":
    sys.exit(main())
