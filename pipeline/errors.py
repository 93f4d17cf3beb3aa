"""The one exception for input that cannot be used."""


class InputError(ValueError):
    """Bad input: one line that names the input and the remedy.

    The command line prints it and exits with status 2; a running stage counts it, reports it and
    goes on with the next frame.
    """
