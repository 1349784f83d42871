"""The researcher's side, above both ends: measurements, simulations, the demo and the demo pair's recipe."""
