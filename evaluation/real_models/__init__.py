"""What a real pair of models does: tasks, exactness, speed beside other engines, calibration."""
