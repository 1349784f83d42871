"""Next-token distributions and the draws from them, the same at both ends. Pure."""
