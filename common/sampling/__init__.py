"""Next-token distributions and the draws from them, identical at both ends. Pure."""
