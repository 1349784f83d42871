"""Mutation testing of the pure packages: small faults are planted in a copy, and tests must notice them."""
