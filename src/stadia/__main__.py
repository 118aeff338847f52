"""`python -m stadia` is `stadia`."""

from stadia.cli.main import run

if __name__ == "__main__":
    run()
