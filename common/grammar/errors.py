"""The only error of a grammar: it cannot be used, and one line says why."""


class UnusableGrammarError(Exception):
    """A grammar that does not compile, is too large, or leads where no token can follow."""
