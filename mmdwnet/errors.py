"""The error that is shown to the person at the command line, without a traceback."""


class UserError(Exception):
    """Something that the caller can put right: a path, an option, a missing package.

    The message is one line that says what is wrong, what was expected and what to do. The
    command lines in ``tools/`` print it as ``error: <message>`` and exit with status 2.
    """
