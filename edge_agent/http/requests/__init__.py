"""What a client asks, as every API of `serve` reads it."""
