"""The exception for mistakes that the user can correct; commands print it in one line."""


class UserError(ValueError):
    """A mistake in what was given to a function: one line that says what is wrong, and what to do about it.

    In the line, arguments of the library's functions stand by their names, in backquotes; the command line, which
    prints it and exits with code 2, puts its flags there. A file is named by its path.

    Attributes:
        argument: name of the argument that is wrong, as the library's functions call it; None where the message itself
            says what is.
    """

    def __init__(self, message: str, *, argument: str | None = None, value: object = None):
        """Say so.

        Args:
            message: what is wrong.
            argument: name of the argument; the line begins with it.
            value: what was given for it, where that helps.
        """
        about = "" if argument is None else f"`{argument}`: " if value is None else f"`{argument}` {value}: "
        super().__init__(about + message)
        self.argument = argument


def one_line(error: Exception) -> str:
    """What kind of error it is and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split())
