"""The command `chipvi`, also as ``python -m chipvi``."""

import sys

from ._signals import end_at_signals, interrupt_at_signals, take


def main() -> None:
    """Run the command line."""
    try:
        interrupt_at_signals()  # first, for the imports take a while
        from .cli.app import app

        app(prog_name="chipvi")
    except (KeyboardInterrupt, SystemExit) as error:
        number = take()
        if number is None or (isinstance(error, SystemExit) and not error.code):
            raise
        print(f"Error: interrupted by {number.name}.", file=sys.stderr)
        raise SystemExit(128 + number) from None
    finally:
        end_at_signals()


if __name__ == "__main__":
    main()
