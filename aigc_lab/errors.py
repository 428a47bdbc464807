"""The one exception that is a message to the user."""


class UserError(Exception):
    """A mistake the user can mend. The command line prints it as one line and exits with code 2."""
