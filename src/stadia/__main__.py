"""`python -m stadia` is `stadia`. Ctrl-C while the command line is imported ends it with one line, too."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Import and run the command line."""
    try:
        from stadia.cli.main import run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("stadia: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
