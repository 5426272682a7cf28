"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in what the user gave: the command line prints the message as one line and exits with code 2.

    The message names the file or argument and says what to do about it.
    """
