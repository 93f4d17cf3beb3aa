"""The one exception for input that cannot be used, and how a foreign one is quoted in it."""


class InputError(ValueError):
    """Bad input: one line that names the input and the remedy.

    The command line prints it and exits with status 2; a running stage counts it, reports it and
    goes on with the next frame.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
