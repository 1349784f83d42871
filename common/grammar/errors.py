"""What can be wrong with a grammar. Pure."""


class UnknownGrammarError(Exception):
    """A grammar that is known by its digest alone is not held here: send its source."""


class GrammarsFullError(Exception):
    """Too many grammars are in use: try again later."""


class UnusableGrammarError(Exception):
    """An answer cannot be constrained, and one line says why."""


class GrammarSourceError(UnusableGrammarError):
    """The fault is in the source, and the line may quote it: it is for who wrote it, not for a log."""
