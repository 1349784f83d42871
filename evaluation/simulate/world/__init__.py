"""What is simulated in virtual time: channel, computers, devices and a worker."""
