"""What several tests need: fixtures, fakes, small models, real processes."""
