"""`mosquitto/provision`: the accounts, rights and certificates of the production broker."""


class ProvisionError(Exception):
    """It cannot be done: one sentence with what is wrong and what to do."""
