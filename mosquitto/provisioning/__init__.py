"""`mosquitto/provision`: the accounts, rights and certificates of the production broker.

It runs from a checkout or an unpacked sdist, next to mosquitto/production.conf; the wheel does not have it.
"""


class ProvisionError(Exception):
    """It cannot be done: one sentence with what is wrong and what to do."""
