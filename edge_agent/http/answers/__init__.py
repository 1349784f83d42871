"""How answers are written and sent."""
