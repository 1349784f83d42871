"""What an agent learns between generations: its calibration, its link, its risk."""
