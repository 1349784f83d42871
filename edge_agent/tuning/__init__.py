"""What an agent learns between generations, and how it uses it: calibration, link, risk."""
