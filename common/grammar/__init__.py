"""Which tokens a grammar allows: JSON schemas, regular expressions and Lark, by llguidance."""
