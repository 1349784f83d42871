"""`mosquitto/provision`: the accounts, rights and certificates of the production broker.

It runs from a checkout or an unpacked sdist, next to mosquitto/production.conf; the wheel does not have it.
"""


class ProvisionError(Exception):
    """The command cannot be carried out: a one-line message with what is wrong and what to do."""
