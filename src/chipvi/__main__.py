"""The command `chipvi`, also as ``python -m chipvi``."""

from ._signals import end_at_signals, interrupt_at_signals, received


def main() -> None:
    """Run the command line."""
    try:
        interrupt_at_signals()  # first, for the imports take a while
        from .cli.app import app

        app(prog_name="chipvi")
    except KeyboardInterrupt as error:
        number = received()
        raise SystemExit(128 + number if number else 130) from error
    finally:
        end_at_signals()


if __name__ == "__main__":
    main()
