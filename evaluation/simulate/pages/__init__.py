"""The pages of the simulation, from points to sections and pictures."""
