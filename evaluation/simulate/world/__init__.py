"""The parts of the simulation in virtual time: channels, computing times, devices and a worker."""
