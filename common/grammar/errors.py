"""What can be wrong with a grammar. Pure."""


class UnknownGrammarError(Exception):
    """A grammar that is known by its digest alone is not held here: send its source."""


class UnusableGrammarError(Exception):
    """A grammar that does not compile, is too large, or leads where no token can follow."""
