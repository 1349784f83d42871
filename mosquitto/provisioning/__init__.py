"""`mosquitto/provision`: the accounts, rights and certificates of the production broker."""


class ProvisionError(Exception):
    """The command cannot be carried out: a one-line message with what is wrong and what to do."""
