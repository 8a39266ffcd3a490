"""The one exception that is meant for people: a sentence that says what is wrong and what to do."""


class Refusal(ValueError):
    """Input that cannot be honoured. The message is complete: the command line prints it alone and exits with 2."""


class Diverged(RuntimeError):
    """A number stopped being one while a model was running: the message names the site, the data point and the step."""
