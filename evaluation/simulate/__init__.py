"""Schemes over channels and speeds, in virtual time: the real code of both ends, with cached logits."""
