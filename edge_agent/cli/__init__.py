"""The commands `generate` and `chat`, and what a person sees of them."""
