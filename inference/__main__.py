"""`python -m inference` is the command `weightproof`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line; Ctrl-C is silent from the first moment on."""
    # While modules are imported there is nothing to put in order, and a traceback tells nobody
    # anything; afterwards Ctrl-C is an exception again. A shell's background job ignores it.
    python_listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if python_listens:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from inference import cli

    if python_listens:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
