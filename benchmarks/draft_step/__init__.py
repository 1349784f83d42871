"""What a device pays for a draft token beside the draft model itself."""
